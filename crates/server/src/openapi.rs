//! The description of the routes, made of their table.

use serde_json::{Map, Value, json};

use crate::desk::{Desk, Field, FieldKind};
use crate::route::{Does, Route, Rows, Verb};

/// The document of a table of routes.
pub fn document(routes: &[Route], desk: &dyn Desk, version: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes
        .iter()
        .filter(|route| !matches!(route.does, Does::Page { .. } | Does::Compat(_)))
    {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        let method = route.verb.method().as_str().to_ascii_lowercase();
        path[method] = operation(route, desk);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "mendb",
            "version": version,
            "description": "Backs up sharded databases and mends them. Arguments are those of the command line, with \
                the same names and meanings; answers are what it prints with --output json.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" }
        },
        "security": [ { "token": [] } ],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": {
                "Problem": {
                    "type": "object",
                    "description": "RFC 9457, with what the command line tells",
                    "required": ["type", "title", "status", "kind", "detail"],
                    "properties": {
                        "type": { "type": "string" },
                        "title": { "type": "string" },
                        "status": { "type": "integer" },
                        "detail": { "type": "string" },
                        "kind": {
                            "type": "string",
                            "description": "what the client must do",
                            "enum": ["fix_command", "fix_input", "fix_environment", "busy", "retry", "report_bug", "broken_pipe"]
                        },
                        "causes": { "type": "array", "items": { "type": "string" } },
                        "hint": { "type": "string" },
                        "operation": { "type": "string" }
                    }
                },
                "Begun": {
                    "type": "object",
                    "required": ["operation_id"],
                    "properties": { "operation_id": { "type": "string" } }
                }
            }
        }
    })
}

fn operation(route: &Route, desk: &dyn Desk) -> Value {
    let mut parameters: Vec<Value> = route
        .parameters()
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }))
        .collect();
    let fields = if route.command().is_some() {
        desk.fields(route)
    } else {
        Vec::new()
    };
    let mut operation = json!({
        "operationId": id(route),
        "summary": route.about,
        "responses": responses(route),
    });
    if let Some(role) = route.role {
        operation["description"] = format!("Takes the role {role}.").into();
        operation["x-role"] = role.name().into();
    } else {
        operation["security"] = json!([]);
    }
    let rows = route.command().map_or(Rows::None, |command| command.rows);
    if rows == Rows::In {
        operation["requestBody"] =
            json!({ "required": true, "description": "a file of rows", "content": files() });
    }
    if route.verb == Verb::Post && rows == Rows::None {
        if route.command().is_some() {
            parameters.push(json!({
                "name": "Idempotency-Key",
                "in": "header",
                "required": false,
                "description": "The same request with the same key begins one operation, also after a crash",
                "schema": { "type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[A-Za-z0-9_.:-]+$" }
            }));
            let properties: Map<String, Value> = fields
                .iter()
                .map(|field| (field.name.clone(), schema(field)))
                .collect();
            let required: Vec<_> = fields
                .iter()
                .filter(|field| field.is_required)
                .map(|field| &field.name)
                .collect();
            let mut body = json!({ "type": "object", "properties": properties, "additionalProperties": false });
            if !required.is_empty() {
                body["required"] = json!(required);
            }
            operation["requestBody"] = json!({ "required": !required.is_empty(), "content": { "application/json": { "schema": body } } });
        } else if matches!(route.does, Does::LogIn) {
            operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": {
                "type": "object", "required": ["token"], "properties": { "token": { "type": "string" } } } } } });
        }
    } else {
        parameters.extend(fields.iter().map(|field| {
            json!({ "name": field.name, "in": "query", "required": field.is_required, "schema": schema(field) })
        }));
    }
    if !parameters.is_empty() {
        operation["parameters"] = json!(parameters);
    }
    operation
}

fn responses(route: &Route) -> Value {
    let problem = json!({ "description": "why it was not done",
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } } });
    let kind = match route.does {
        Does::Metrics | Does::Live | Does::Ready => "text/plain",
        Does::Events | Does::OperationEvents => "text/event-stream",
        _ => "application/json",
    };
    let content = match route.command() {
        Some(command) if command.rows == Rows::Out => files(),
        _ => json!({ kind: {} }),
    };
    let mut responses = json!({
        "200": { "description": "what the command prints", "content": content },
        "default": problem,
    });
    if route.changes()
        && route
            .command()
            .is_some_and(|command| command.rows == Rows::None)
    {
        responses["202"] = json!({ "description": "an operation has begun",
            "headers": { "Location": { "schema": { "type": "string" }, "description": "of the operation" } },
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Begun" } } } });
    }
    responses
}

/// The media types of files of rows.
fn files() -> Value {
    let file = json!({ "schema": { "type": "string", "format": "binary" } });
    json!({ "text/csv": file, "application/x-ndjson": file, "application/vnd.apache.parquet": file })
}

fn schema(field: &Field) -> Value {
    let mut schema = match &field.kind {
        FieldKind::Boolean => json!({ "type": "boolean" }),
        FieldKind::Integer => json!({ "type": "integer", "minimum": 0 }),
        FieldKind::Text => json!({ "type": "string" }),
        FieldKind::OneOf(values) => json!({ "type": "string", "enum": values }),
        FieldKind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
    };
    schema["description"] = field.about.clone().into();
    schema
}

/// A name for a route: `post_collections_backups`.
fn id(route: &Route) -> String {
    let parts = route.path.split('/');
    let mut id = route.verb.method().as_str().to_ascii_lowercase();
    for part in parts.filter(|part| !part.is_empty() && *part != "v1") {
        let part: String = part
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        id += "_";
        id += &part;
    }
    id
}
