//! The dashboard: files that browsers get as they are. They ask the API and nothing else.

use crate::route::{Does, Route, Verb};

const fn page(path: &'static str, kind: &'static str, content: &'static str) -> Route {
    Route {
        verb: Verb::Get,
        path,
        role: None,
        about: "A file of the dashboard",
        does: Does::Page { kind, content },
    }
}

/// The page.
pub const INDEX: Route = page(
    "/",
    "text/html; charset=utf-8",
    include_str!("../dashboard/index.html"),
);

/// Which view is shown, and to whom.
pub const SCRIPT: Route = page(
    "/app.js",
    "text/javascript; charset=utf-8",
    include_str!("../dashboard/app.js"),
);

/// What its views are made of.
pub const PAGE: Route = page(
    "/page.js",
    "text/javascript; charset=utf-8",
    include_str!("../dashboard/page.js"),
);

/// The view of collections and their backups.
pub const COLLECTIONS: Route = page(
    "/collections.js",
    "text/javascript; charset=utf-8",
    include_str!("../dashboard/collections.js"),
);

/// The views of operations.
pub const OPERATIONS: Route = page(
    "/operations.js",
    "text/javascript; charset=utf-8",
    include_str!("../dashboard/operations.js"),
);

/// The views of schedules and of the audit.
pub const SCHEDULES: Route = page(
    "/schedules.js",
    "text/javascript; charset=utf-8",
    include_str!("../dashboard/schedules.js"),
);

/// The view of the tables of a row store.
pub const TABLES: Route = page(
    "/tables.js",
    "text/javascript; charset=utf-8",
    include_str!("../dashboard/tables.js"),
);

/// How it looks.
pub const STYLE: Route = page(
    "/style.css",
    "text/css; charset=utf-8",
    include_str!("../dashboard/style.css"),
);

/// Its sign.
pub const ICON: Route = page(
    "/icon.svg",
    "image/svg+xml",
    include_str!("../dashboard/icon.svg"),
);
