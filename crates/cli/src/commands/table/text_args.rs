//! The flags that say how values are read that people wrote: those of a file, and those of keys and
//! ranges on the command line.

use clap::Args;
use jiff::tz::{Offset, TimeZone};
use mendb_model::text::TextRules;

/// How the text of values is read.
#[derive(Debug, Args, Clone, Default)]
pub struct TextArgs {
    /// Take the nearest value where a type cannot hold all digits, and the day of a time for a Date.
    /// Without it such values are refused
    #[arg(long)]
    round: bool,
    /// The zone of times that are written without an offset, as Europe/Paris or +02:00; else UTC
    #[arg(long, value_name = "ZONE", value_parser = parse_zone, allow_hyphen_values = true)]
    timezone: Option<TimeZone>,
}

impl TextArgs {
    /// The flag that was given, if one was.
    pub fn given(&self) -> Option<&'static str> {
        if self.round {
            return Some("--round");
        }
        self.timezone.is_some().then_some("--timezone")
    }

    /// The rules they make.
    pub fn rules(&self) -> TextRules {
        TextRules {
            round: self.round,
            zone: self.timezone.clone(),
            ..TextRules::EXACT
        }
    }
}

/// Reads a zone by its name in the database of the system, or by its offset.
fn parse_zone(text: &str) -> Result<TimeZone, String> {
    if let Some(seconds) = offset_seconds(text) {
        let offset = Offset::from_seconds(seconds).map_err(|error| error.to_string())?;
        return Ok(TimeZone::fixed(offset));
    }
    if text.eq_ignore_ascii_case("utc") || text == "Z" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(text).map_err(|_| {
        format!("this system knows no time zone {text:?}; write an offset such as +02:00")
    })
}

/// `+02:00` in seconds to the east.
fn offset_seconds(text: &str) -> Option<i32> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+')?),
    };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
    let hours: i32 = hours.parse().ok().filter(|hours| (0..24).contains(hours))?;
    let minutes: i32 = minutes.parse().ok().filter(|m| (0..60).contains(m))?;
    Some(sign * (hours * 60 + minutes) * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_a_name_or_an_offset() {
        assert_eq!(parse_zone("UTC"), Ok(TimeZone::UTC));
        assert_eq!(offset_seconds("+02:00"), Some(7200));
        assert_eq!(offset_seconds("-01:30"), Some(-5400));
        assert!(parse_zone("+25:00").is_err());
        assert!(parse_zone("Europe/Nowhere").is_err());
    }
}
