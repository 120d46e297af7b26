//! Values of settings: how they are read from text. An error says what would be one.

use mendb_model::part::{OnConcurrentInsert, PartitionMethod};

/// What a value should have been.
pub type Wanted = &'static str;

/// Text that may not be empty: a URL.
pub fn url(text: &str) -> Result<String, Wanted> {
    if text.is_empty() {
        Err("a URL")
    } else {
        Ok(text.to_owned())
    }
}

/// The address of a web server; `None` where the text is empty.
pub fn web_address(text: &str) -> Result<Option<String>, Wanted> {
    if text.is_empty() {
        return Ok(None);
    }
    match url::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(Some(text.to_owned()))
        }
        _ => Err("a URL that begins with http:// or https://"),
    }
}

/// A whole number above 0.
pub fn positive(text: &str) -> Result<u64, Wanted> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("a whole number above 0"),
    }
}

/// A whole number; 0 is one.
pub fn whole(text: &str) -> Result<u64, Wanted> {
    text.parse().map_err(|_| "a whole number, 0 or above")
}

/// A port.
pub fn port(text: &str) -> Result<u16, Wanted> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("a port from 1 to 65535"),
    }
}

/// A level of compression.
pub fn level(text: &str) -> Result<u64, Wanted> {
    match text.parse() {
        Ok(level) if (1..=22).contains(&level) => Ok(level),
        _ => Err("a level from 1 to 22"),
    }
}

/// `1048576`, `512KiB`, `64MiB`, `2GiB`; `K`, `M`, `G` and `KB`, `MB`, `GB` mean the same.
pub fn size(text: &str) -> Result<u64, Wanted> {
    const WANTED: Wanted = "a size such as 1048576, 64MiB or 2GiB";
    bytes(text).filter(|bytes| *bytes > 0).ok_or(WANTED)
}

/// A size, or 0 for no limit.
pub fn limit(text: &str) -> Result<Option<u64>, Wanted> {
    const WANTED: Wanted = "a size such as 1048576, 64MiB or 2GiB, or 0 for no limit";
    let bytes = bytes(text).ok_or(WANTED)?;
    Ok(Some(bytes).filter(|bytes| *bytes > 0))
}

fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let shift = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `true` or `false`, in the words of YAML and of environments.
pub fn boolean(text: &str) -> Result<bool, Wanted> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("true or false"),
    }
}

/// The order of work of a restore in place.
pub fn restore_order(text: &str) -> Result<PartitionMethod, Wanted> {
    match text {
        "auto" => Ok(PartitionMethod::Auto),
        "remove_first" | "remove-first" => Ok(PartitionMethod::RemoveFirst),
        "swap" => Ok(PartitionMethod::Swap),
        _ => Err("auto, remove_first or swap"),
    }
}

/// What becomes of parts that come while a mend is carried out.
///
/// # Errors
/// The text is none of the words for it, which are told.
pub fn on_concurrent_insert(text: &str) -> Result<OnConcurrentInsert, String> {
    match text {
        "fail" => Ok(OnConcurrentInsert::Fail),
        "remove" => Ok(OnConcurrentInsert::Remove),
        "keep" => Ok(OnConcurrentInsert::Keep),
        _ => Err("it is not fail, remove or keep".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("2 GiB"), Ok(2 << 30));
        assert_eq!(size("64m"), Ok(64 << 20));
        for bad in ["", "0", "-1", "1TiBs", "99999999999GiB", "MiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_limit_is_zero() {
        assert_eq!(limit("0"), Ok(None));
        assert_eq!(limit("10MiB"), Ok(Some(10 << 20)));
        assert!(limit("none").is_err());
    }

    #[test]
    fn truth_is_said_as_in_yaml_and_in_environments() {
        for text in ["true", "True", "yes", "on", "1"] {
            assert_eq!(boolean(text), Ok(true), "{text}");
        }
        for text in ["false", "no", "OFF", "0"] {
            assert_eq!(boolean(text), Ok(false), "{text}");
        }
        assert!(boolean("").is_err());
    }

    #[test]
    fn an_order_of_work_is_one_of_three() {
        assert_eq!(restore_order("swap"), Ok(PartitionMethod::Swap));
        assert_eq!(
            restore_order("remove-first"),
            Ok(PartitionMethod::RemoveFirst)
        );
        assert!(restore_order("").is_err());
    }
}
