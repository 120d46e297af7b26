//! Traces of operations for a collector of OpenTelemetry: OTLP over HTTP, with the feature `otlp`.
//!
//! An operation is one trace, whichever processes work for it: its id gives that of the trace and of its root span, which
//! is sent when the operation is over, again where it is resumed and ends again. Below it is a span for each attempt of a
//! task, sent when that has ended, with what was said meanwhile. A process that is killed loses those of the last seconds.
//!
//! *Source*: the variables are those of the OpenTelemetry specification, "OpenTelemetry Protocol Exporter":
//! `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` switches it on, and `…_PROTOCOL`
//! (`http/protobuf`, `http/json`), `…_HEADERS`, `…_TIMEOUT` and `OTEL_SERVICE_NAME` are heeded.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use mendb_model::name::OperationId;
use mendb_model::operation::{OperationHead, State};
use mendb_service::env;
use opentelemetry::trace::{
    Event as SpanEvent, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value as Attribute};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SpanData, SpanEvents, SpanExporter, SpanLinks, SpanProcessor,
};
use serde_json::Value;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::fields::{Fields, Taken};
use crate::failure::{Failure, FailureKind};

/// Either says where traces go.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
/// Fields of the spans that are sent.
const OPERATION_ID: &str = "operation_id";
const ERROR: &str = "error";
/// So much that was said in one attempt goes along with it.
const EVENTS_MAX: usize = 64;
/// For so long a process that ends waits for the collector.
const PATIENCE: Duration = Duration::from_secs(5);

/// What sends the spans of this process, if they are sent.
static SENDER: OnceLock<BatchSpanProcessor> = OnceLock::new();

/// Begins to send, where the environment says where to.
///
/// # Errors
/// What it says cannot be used.
pub fn start() -> Result<Option<Attempts>, Failure> {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !ENDPOINTS.into_iter().any(is_set) {
        return Ok(None);
    }
    // Another that was installed before is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http();
    let exporter = exporter.build().map_err(|error| {
        Failure::of(FailureKind::FixCommand, &error)
            .context("traces cannot be sent as the variables OTEL_EXPORTER_OTLP_… say")
    })?;
    let mut sender = BatchSpanProcessor::builder(Collector::new(exporter)).build();
    let mut resource = Resource::builder()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if !is_set("OTEL_SERVICE_NAME") {
        resource = resource.with_service_name("mendb");
    }
    sender.set_resource(&resource.build());
    let _ = SENDER.set(sender);
    Ok(Some(Attempts))
}

/// Sends what has not been sent. Nothing is sent any more.
pub fn end() {
    if let Some(sender) = SENDER.get()
        && let Err(error) = sender.shutdown_with_timeout(PATIENCE)
    {
        tracing::warn!(%error, "the last traces were lost");
    }
}

/// Where spans go to. Says when they begin to be lost, and when they are taken again.
#[derive(Debug)]
struct Collector {
    exporter: opentelemetry_otlp::SpanExporter,
    is_lost: AtomicBool,
}

impl Collector {
    fn new(exporter: opentelemetry_otlp::SpanExporter) -> Self {
        Self {
            exporter,
            is_lost: AtomicBool::new(false),
        }
    }

    fn heard(&self, sent: &OTelSdkResult) {
        let was_lost = self.is_lost.swap(sent.is_err(), Ordering::Relaxed);
        match sent {
            Err(error) if !was_lost => tracing::warn!(
                %error,
                "traces are lost: the collector at OTEL_EXPORTER_OTLP_ENDPOINT does not take them"
            ),
            Ok(()) if was_lost => tracing::warn!("the collector takes traces again"),
            Ok(()) | Err(_) => {}
        }
    }
}

impl SpanExporter for Collector {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(batch).await;
        self.heard(&sent);
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Sends the root span of an operation that is over.
pub fn saw(operation: &OperationHead) {
    let Some(sender) = SENDER.get().filter(|_| operation.state.is_terminal()) else {
        return;
    };
    let id = &operation.operation_id;
    let mut attributes = Fields::from([
        (OPERATION_ID.to_owned(), id.as_str().into()),
        (
            "collection".to_owned(),
            operation.request.collection().into(),
        ),
        ("state".to_owned(), operation.state.name().into()),
    ]);
    if let Some(error) = &operation.error {
        attributes.insert(ERROR.to_owned(), error.as_str().into());
    }
    sender.on_end(SpanData {
        span_context: context(id, root(id)),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: operation.request.kind().into(),
        start_time: moment(operation.created_at_ms),
        end_time: moment(operation.updated_at_ms),
        status: match (operation.state, &operation.error) {
            (State::Done, _) => Status::Ok,
            (_, Some(error)) => Status::error(error.clone()),
            (_, None) => Status::Unset,
        },
        attributes: attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        instrumentation_scope: scope(),
    });
}

/// Sends the spans of attempts, each when it has ended.
pub struct Attempts;

/// An attempt that goes on.
struct Attempt {
    started_at_ms: u64,
    fields: Fields,
    said: Vec<SpanEvent>,
    unsaid: u32,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Attempts {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Taken(&mut fields));
        if let Some(span) = context.span(id)
            && fields.contains_key(OPERATION_ID)
        {
            span.extensions_mut().insert(Attempt {
                started_at_ms: env::now_ms(),
                fields,
                said: Vec::new(),
                unsaid: 0,
            });
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(attempt) = span.extensions_mut().get_mut::<Attempt>()
        {
            record.record(&mut Taken(&mut attempt.fields));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        for span in context.event_scope(event).into_iter().flatten() {
            let mut extensions = span.extensions_mut();
            let Some(attempt) = extensions.get_mut::<Attempt>() else {
                continue;
            };
            if attempt.said.len() >= EVENTS_MAX {
                attempt.unsaid += 1;
                return;
            }
            let mut fields = Fields::new();
            event.record(&mut Taken(&mut fields));
            let message = fields.remove("message");
            let message = message.as_ref().and_then(Value::as_str);
            let name = message.unwrap_or("event").to_owned();
            fields.insert("level".to_owned(), event.metadata().level().as_str().into());
            let attributes = fields.into_iter().map(attribute).collect();
            let at = moment(env::now_ms());
            attempt.said.push(SpanEvent::new(name, at, attributes, 0));
            return;
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        let ended = span.extensions_mut().remove::<Attempt>();
        if let (Some(attempt), Some(sender)) = (ended, SENDER.get())
            && let Some(data) = attempt.ended(span.name(), env::now_ms())
        {
            sender.on_end(data);
        }
    }
}

impl Attempt {
    /// Its span; `None` where what it names is no operation.
    fn ended(self, name: &'static str, now_ms: u64) -> Option<SpanData> {
        let operation = self.fields.get(OPERATION_ID)?.as_str()?;
        let operation: OperationId = operation.parse().ok()?;
        let error = self.fields.get(ERROR).and_then(Value::as_str);
        let status = error.map_or(Status::Ok, |error| Status::error(error.to_owned()));
        // No two attempts of a task have one number, and no two processes try one.
        let told = format!("{name} {} {:?}", self.started_at_ms, self.fields);
        let mut events = SpanEvents::default();
        events.events = self.said;
        events.dropped_count = self.unsaid;
        Some(SpanData {
            span_context: context(&operation, span_id(&told)),
            parent_span_id: root(&operation),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time: moment(self.started_at_ms),
            end_time: moment(now_ms.max(self.started_at_ms)),
            attributes: self.fields.into_iter().map(attribute).collect(),
            dropped_attributes_count: 0,
            events,
            links: SpanLinks::default(),
            status,
            instrumentation_scope: scope(),
        })
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("mendb").build()
}

/// A span in the trace of an operation.
fn context(operation: &OperationId, span: SpanId) -> SpanContext {
    let [trace, ..] = halves(operation.as_str());
    let (flags, state) = (TraceFlags::SAMPLED, TraceState::default());
    SpanContext::new(TraceId::from_bytes(trace), span, flags, false, state)
}

/// The root span of an operation.
fn root(operation: &OperationId) -> SpanId {
    span_id(&format!("root of {operation}"))
}

fn span_id(text: &str) -> SpanId {
    let [[a, b, c, d, e, f, g, h, ..], _] = halves(text);
    SpanId::from_bytes([a, b, c, d, e, f, g, h])
}

/// The BLAKE3 hash of a text, in two.
fn halves(text: &str) -> [[u8; 16]; 2] {
    let hash = *blake3::hash(text.as_bytes()).as_bytes();
    let (first, second) = hash.split_at(16);
    [first, second].map(|half| half.try_into().unwrap_or_default())
}

/// A moment in milliseconds since 1970.
fn moment(at_ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at_ms)
}

fn attribute((name, value): (String, Value)) -> KeyValue {
    let value = match value {
        Value::Bool(value) => Attribute::Bool(value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Attribute::I64(whole),
            (None, Some(value)) => Attribute::F64(value),
            (None, None) => Attribute::String(number.to_string().into()),
        },
        Value::String(text) => Attribute::String(text.into()),
        other => Attribute::String(other.to_string().into()),
    };
    KeyValue::new(name, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_of_all_processes_are_below_the_one_root_of_their_operation() {
        let operation = "backup-20261130150000-0a1b2c";
        let span = |number: u64, error: Option<&str>| {
            let mut fields = Fields::from([
                (OPERATION_ID.to_owned(), operation.into()),
                ("attempt".to_owned(), number.into()),
            ]);
            fields.extend(error.map(|error| (ERROR.to_owned(), error.into())));
            let attempt = Attempt {
                started_at_ms: 1000,
                fields,
                said: Vec::new(),
                unsaid: 0,
            };
            attempt.ended("attempt", 3000).unwrap()
        };
        let (first, second) = (span(1, Some("the disk is full")), span(2, None));
        let of = |span: &SpanData| (span.span_context.trace_id(), span.parent_span_id);
        assert_eq!(of(&first), of(&second));
        assert_ne!(first.span_context.span_id(), second.span_context.span_id());
        assert_eq!(first.parent_span_id, root(&operation.parse().unwrap()));
        assert_eq!(first.status, Status::error("the disk is full"));
        assert_eq!(second.status, Status::Ok);
        assert_eq!(first.end_time, moment(3000));
    }
}
