//! What is counted and measured, as Prometheus reads it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

/// Bounds of the times of requests, in seconds.
const BOUNDS_S: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];

/// What a number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Goes up.
    Counter,
    /// Goes up, by bounds.
    Histogram,
}

/// Numbers of one name.
#[derive(Debug, Clone)]
pub struct Family {
    /// With its unit: `mendb_backup_age_seconds`.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// What it means.
    pub kind: Kind,
    /// Each number with what it is of.
    pub samples: Vec<Sample>,
}

/// A number.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Behind the name of the family.
    pub suffix: &'static str,
    /// What it is of.
    pub labels: Vec<(&'static str, String)>,
    /// It.
    pub value: f64,
}

impl Family {
    /// Numbers that go up and down.
    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            kind: Kind::Gauge,
            samples: Vec::new(),
        }
    }

    /// Numbers that go up.
    pub fn counter(name: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::Counter,
            ..Self::gauge(name, help)
        }
    }

    /// Adds a number.
    #[must_use]
    pub fn with(mut self, labels: Vec<(&'static str, String)>, value: f64) -> Self {
        self.samples.push(Sample {
            suffix: "",
            labels,
            value,
        });
        self
    }
}

/// Families as text.
pub fn text(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let kind = match family.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        let name = family.name;
        let _ = writeln!(text, "# HELP {name} {}", family.help);
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for sample in &family.samples {
            text += name;
            text += sample.suffix;
            if !sample.labels.is_empty() {
                let labels = sample.labels.iter();
                let labels: Vec<_> = labels
                    .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                    .collect();
                let _ = write!(text, "{{{}}}", labels.join(","));
            }
            let _ = writeln!(text, " {}", sample.value);
        }
    }
    text
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Counts requests.
#[derive(Debug, Default)]
pub struct Requests(Mutex<BTreeMap<(&'static str, &'static str, u16), Times>>);

#[derive(Debug, Default, Clone)]
struct Times {
    count: u64,
    sum_ms: u64,
    within: [u64; BOUNDS_S.len()],
}

impl Requests {
    /// Counts one.
    pub fn count(&self, method: &'static str, path: &'static str, status: u16, took_ms: u64) {
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = requests.entry((method, path, status)).or_default();
        times.count += 1;
        times.sum_ms += took_ms;
        for (bound, within) in BOUNDS_S.iter().zip(&mut times.within) {
            if took_ms as f64 / 1000.0 <= *bound {
                *within += 1;
            }
        }
    }

    /// What was counted.
    pub fn family(&self) -> Family {
        let requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut samples = Vec::new();
        for ((method, path, status), times) in requests.iter() {
            let labels = || {
                vec![
                    ("method", (*method).to_owned()),
                    ("path", (*path).to_owned()),
                    ("status", status.to_string()),
                ]
            };
            let bounds = BOUNDS_S.iter().map(ToString::to_string);
            let buckets = bounds
                .chain(["+Inf".to_owned()])
                .zip(times.within.iter().chain([&times.count]));
            for (bound, within) in buckets {
                let mut labels = labels();
                labels.push(("le", bound));
                samples.push(Sample {
                    suffix: "_bucket",
                    labels,
                    value: *within as f64,
                });
            }
            samples.push(Sample {
                suffix: "_sum",
                labels: labels(),
                value: times.sum_ms as f64 / 1000.0,
            });
            samples.push(Sample {
                suffix: "_count",
                labels: labels(),
                value: times.count as f64,
            });
        }
        Family {
            name: "mendb_http_request_duration_seconds",
            help: "Time from a request to the head of its answer.",
            kind: Kind::Histogram,
            samples,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_name_a_help_and_labels_that_hold_any_text() {
        let family = Family::gauge("mendb_age_seconds", "How old.")
            .with(vec![("of", "a\"b\\c\nd".to_owned())], 1.5);
        let empty = Family::gauge("mendb_nothing", "Nothing.");
        assert_eq!(
            text(&[family, empty]),
            "# HELP mendb_age_seconds How old.\n# TYPE mendb_age_seconds gauge\n\
             mendb_age_seconds{of=\"a\\\"b\\\\c\\nd\"} 1.5\n"
        );
    }

    #[test]
    fn requests_are_counted_below_their_bounds() {
        let requests = Requests::default();
        requests.count("GET", "/v1/x", 200, 20);
        requests.count("GET", "/v1/x", 200, 700);
        let text = text(&[requests.family()]);
        let has = |line: &str| assert!(text.contains(line), "{line}:\n{text}");
        has("status=\"200\",le=\"0.025\"} 1\n");
        has("status=\"200\",le=\"1\"} 2\n");
        has("status=\"200\",le=\"+Inf\"} 2\n");
        has("_sum{method=\"GET\",path=\"/v1/x\",status=\"200\"} 0.72\n");
    }
}
