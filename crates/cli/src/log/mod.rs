//! What goes to stderr: notes, and what happens inside, as lines for people or as one JSON object a line.
//!
//! A line of an operation has its id in `operation_id`: whatever works for one does so in a span that names it.

mod fields;
#[cfg(feature = "otlp")]
pub mod traces;

use std::io::Write;
use std::sync::OnceLock;

use clap::ValueEnum;
use mendb_service::env;
use serde_json::{Map, Value, json};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use self::fields::{Fields, Taken};
use crate::failure::{Failure, FailureKind};
use crate::human;
use crate::output_format::OutputFormat;

/// How what goes to stderr is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The format of this process, which it has from its start.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

fn is_json() -> bool {
    FORMAT.get() == Some(&LogFormat::Json)
}

/// Begins to log, as the flags and `MENDB_LOG` say.
///
/// # Errors
/// `MENDB_LOG` is no filter.
pub fn start(format: LogFormat, verbose: u8, quiet: bool) -> Result<(), Failure> {
    let filter = std::env::var("MENDB_LOG").ok();
    let filter = match (&filter, verbose) {
        (Some(filter), _) if !filter.is_empty() => filter.as_str(),
        (_, 0) if quiet => "error",
        (_, 0) => "warn",
        (_, 1) => "warn,mendb=info",
        (_, 2) => "info,mendb=debug",
        (_, _) => "debug,mendb=trace",
    };
    let filter = EnvFilter::builder().parse(filter).map_err(|error| {
        Failure::of(FailureKind::FixCommand, &error).context("MENDB_LOG is no log filter")
    })?;
    let _ = FORMAT.set(format);
    let registry = tracing_subscriber::registry().with(filter);
    #[cfg(feature = "otlp")]
    let registry = registry.with(traces::start()?);
    match format {
        LogFormat::Text => {
            let lines = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_target(true);
            registry.with(lines).init();
        }
        LogFormat::Json => registry.with(JsonLines).init(),
    }
    Ok(())
}

/// Says something that is neither data nor a failure.
pub fn say(text: &str) {
    if !is_json() {
        eprintln!("{text}");
        return;
    }
    for line in text.lines().filter(|line| !line.is_empty()) {
        let said = [("message".to_owned(), Value::from(line))];
        write(line_of("INFO", "mendb", said));
    }
}

/// Says why a command has failed: as `text` for people, as `error` for programs.
pub fn fail(text: &str, error: &Value, format: OutputFormat) {
    if is_json() {
        let message = error["message"].as_str().unwrap_or(text);
        let said = [
            ("message".to_owned(), message.into()),
            ("error".to_owned(), error.clone()),
        ];
        write(line_of("ERROR", "mendb", said));
        return;
    }
    match format {
        OutputFormat::Text => eprintln!("{text}"),
        OutputFormat::Json => eprintln!("{}", json!({ "error": error })),
    }
}

/// Says what a failure is.
pub fn fail_with(failure: &Failure, format: OutputFormat) {
    let error = serde_json::to_value(failure).unwrap_or_default();
    fail(&failure.to_string(), &error, format);
}

fn line_of(
    level: &str,
    target: &str,
    fields: impl IntoIterator<Item = (String, Value)>,
) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("time".to_owned(), human::time_ms(env::now_ms()).into());
    line.insert("level".to_owned(), level.into());
    line.insert("target".to_owned(), target.into());
    for (name, value) in fields {
        // What every line has stays what it is.
        let name = match line.contains_key(&name) {
            true => format!("field_{name}"),
            false => name,
        };
        line.insert(name, value);
    }
    line
}

/// Writes a line at once, so that lines of threads do not mix. A stderr that is gone hears nothing.
fn write(line: Map<String, Value>) {
    let line = format!("{}\n", Value::Object(line));
    drop(std::io::stderr().lock().write_all(line.as_bytes()));
}

/// Writes events as JSON objects, each with the fields of the spans that it is in.
struct JsonLines;

/// The fields of a span that goes on.
struct OfSpan(Fields);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JsonLines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Taken(&mut fields));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(OfSpan(fields));
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<OfSpan>()
        {
            record.record(&mut Taken(&mut fields.0));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::new();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(OfSpan(of_span)) = span.extensions().get::<OfSpan>() {
                // The innermost span comes first.
                for (name, value) in of_span {
                    fields.entry(name.clone()).or_insert_with(|| value.clone());
                }
            }
        }
        event.record(&mut Taken(&mut fields));
        let metadata = event.metadata();
        write(line_of(
            metadata.level().as_str(),
            metadata.target(),
            fields,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_time_level_and_target_whatever_its_fields_are_called() {
        let fields = [
            ("message".to_owned(), "a \"b\"\n".into()),
            ("target".to_owned(), Value::from("shop.orders")),
        ];
        let line = Value::Object(line_of("WARN", "mendb_service::worker", fields));
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["target"], "mendb_service::worker");
        assert_eq!(line["field_target"], "shop.orders");
        assert_eq!(line["message"], "a \"b\"\n");
        assert!(!line.to_string().contains('\n'));
        assert!(
            line["time"]
                .as_str()
                .is_some_and(|time| time.ends_with('Z'))
        );
    }
}
