//! Values of keys as text that the server reads back exactly.

use mendb_model::value::ValueRef;

use super::wire::Wire;

const MICROSECONDS_A_DAY: i64 = 86_400_000_000;

/// A value of a key, not quoted; `None` of NULL, and of what is in no key.
pub(super) fn literal(wire: Wire, value: ValueRef<'_>) -> Option<String> {
    Some(match (wire, value) {
        (Wire::Date, ValueRef::Int(v)) => match v {
            _ if v == i64::from(i32::MAX) => "infinity".to_owned(),
            _ if v == i64::from(i32::MIN) => "-infinity".to_owned(),
            days => date(days, ""),
        },
        (Wire::Timestamp, ValueRef::Int(v)) => match v {
            i64::MAX => "infinity".to_owned(),
            i64::MIN => "-infinity".to_owned(),
            at => {
                let time = at.rem_euclid(MICROSECONDS_A_DAY);
                let (seconds, micros) = (time / 1_000_000, time % 1_000_000);
                let time = format!(
                    " {:02}:{:02}:{:02}.{micros:06}+00",
                    seconds / 3600,
                    seconds / 60 % 60,
                    seconds % 60
                );
                date(at.div_euclid(MICROSECONDS_A_DAY), &time)
            }
        },
        (Wire::Numeric { scale, .. }, ValueRef::Decimal(v)) => decimal(v, scale),
        (_, ValueRef::Bool(v)) => v.to_string(),
        (_, ValueRef::Int(v)) => v.to_string(),
        (_, ValueRef::Text(v)) => v.to_owned(),
        (_, ValueRef::Bytes(v)) => format!("\\x{}", mendb_model::key::to_hex(v)),
        (_, ValueRef::Uuid(v)) => mendb_model::key::to_hex(&v),
        _ => return None,
    })
}

/// A day since 1970, with a time behind it.
fn date(days: i64, time: &str) -> String {
    // Years begin in March here, so that leap days are at their ends; eras are of 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    // The year before 1 is 1 BC.
    match year {
        1.. => format!("{year:04}-{month:02}-{day:02}{time}"),
        _ => format!("{:04}-{month:02}-{day:02}{time} BC", 1 - year),
    }
}

fn decimal(number: i128, scale: u8) -> String {
    let scale = usize::from(scale);
    let sign = if number < 0 { "-" } else { "" };
    let digits = format!("{:0width$}", number.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    match scale {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_the_server_reads_them() {
        let wire = Wire::Numeric {
            precision: 5,
            scale: 2,
        };
        for (wire, value, expected) in [
            (Wire::Date, ValueRef::Int(0), "1970-01-01"),
            (Wire::Date, ValueRef::Int(-719_528), "0001-01-01 BC"),
            (Wire::Date, ValueRef::Int(11_016), "2000-02-29"),
            (Wire::Date, ValueRef::Int(i32::MIN.into()), "-infinity"),
            (
                Wire::Timestamp,
                ValueRef::Int(-1),
                "1969-12-31 23:59:59.999999+00",
            ),
            (Wire::Timestamp, ValueRef::Int(i64::MAX), "infinity"),
            (wire, ValueRef::Decimal(-5), "-0.05"),
            (wire, ValueRef::Decimal(12_345), "123.45"),
            (Wire::Bytes, ValueRef::Bytes(&[0, 255]), "\\x00ff"),
            (Wire::Text, ValueRef::Text("it's"), "it's"),
        ] {
            assert_eq!(literal(wire, value).as_deref(), Some(expected));
        }
        assert_eq!(literal(Wire::Int8, ValueRef::Null), None);
    }
}
