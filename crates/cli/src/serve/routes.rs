//! The table of routes. What a route takes and does is what its command takes and does.

use mendb_server::route::{Command, Does, Route, Rows, Verb};
use mendb_server::{Role, dashboard};

/// A command whose arguments have the names of the path.
const fn command(words: &'static [&'static str]) -> Command {
    Command {
        words,
        names: &[],
        without: &[],
        fixed: &[],
        carries_out: false,
        rows: Rows::None,
    }
}

/// The same, where a part of the path stands for an argument of another name.
const fn named(
    words: &'static [&'static str],
    names: &'static [(&'static str, &'static str)],
) -> Command {
    Command {
        names,
        ..command(words)
    }
}

/// The same, without arguments about files of this machine or places that only its user may name.
const fn without(command: Command, without: &'static [&'static str]) -> Command {
    Command { without, ..command }
}

const fn route(
    verb: Verb,
    path: &'static str,
    role: Role,
    about: &'static str,
    does: Command,
) -> Route {
    Route {
        verb,
        path,
        role: Some(role),
        about,
        does: Does::Command(does),
    }
}

const fn other(
    verb: Verb,
    path: &'static str,
    role: Option<Role>,
    about: &'static str,
    does: Does,
) -> Route {
    Route {
        verb,
        path,
        role,
        about,
        does,
    }
}

use Role::{Admin, Operator, Viewer};
use Verb::{Delete, Get, Post};

/// Places that only who configures the server names.
const PLACES: &[&str] = &["from", "plan"];
/// The same of what works on clusters, too: a server coordinates the one that is its target.
const CLUSTERS: &[&str] = &["cluster", "http_port"];
const PLACES_AND_CLUSTERS: &[&str] = &["from", "plan", "cluster", "http_port"];

/// A server has a journal.
const JOURNAL: &[&str] = &["journal"];

/// Every route.
pub const ROUTES: &[Route] = &[
    // What there is.
    route(
        Get,
        "/v1/collections",
        Viewer,
        "The collections of the target",
        command(&["collection", "list"]),
    ),
    route(
        Get,
        "/v1/collections/{name}",
        Viewer,
        "A collection, and what is kept for its repositories",
        command(&["collection", "show"]),
    ),
    route(
        Get,
        "/v1/backups",
        Viewer,
        "The backups of the repository",
        without(command(&["list"]), PLACES),
    ),
    route(
        Get,
        "/v1/collections/{name}/backups",
        Viewer,
        "The backups of a collection",
        without(named(&["list"], &[("name", "collection")]), PLACES),
    ),
    route(
        Get,
        "/v1/backups/{backup}",
        Viewer,
        "What is in a backup, by its id, label or collection/id",
        without(command(&["show"]), PLACES),
    ),
    route(
        Get,
        "/v1/collections/{name}/backups/{backup}",
        Viewer,
        "What is in a backup of a collection",
        without(command(&["show"]), PLACES),
    ),
    route(
        Get,
        "/v1/diff",
        Viewer,
        "What differs between two backups, or a backup and now",
        command(&["diff"]),
    ),
    route(
        Get,
        "/v1/tables",
        Viewer,
        "The tables of a row store",
        command(&["table", "list"]),
    ),
    route(
        Get,
        "/v1/tables/{table}",
        Viewer,
        "A table of a row store: columns, indexes, shards",
        command(&["table", "describe"]),
    ),
    route(
        Get,
        "/v1/tables/{table}/rows",
        Viewer,
        "The rows of a table in key order, as CSV, JSON lines or Parquet",
        Command {
            rows: Rows::Out,
            ..without(command(&["table", "export"]), &["file"])
        },
    ),
    route(
        Post,
        "/v1/tables/{table}/rows",
        Admin,
        "Writes the rows of a CSV, JSON lines or Parquet file, all of them or none; arguments stand in the query",
        Command {
            fixed: &[("file", "-")],
            rows: Rows::In,
            ..without(command(&["table", "import"]), &["file", "schema"])
        },
    ),
    // Operations.
    route(
        Get,
        "/v1/operations",
        Viewer,
        "Operations, running, stopped and over",
        command(&["operation", "list"]),
    ),
    route(
        Get,
        "/v1/operations/{operation}",
        Viewer,
        "An operation with its steps and shards",
        command(&["operation", "show"]),
    ),
    route(
        Get,
        "/v1/operations/{operation}/end",
        Viewer,
        "The report of an operation, when it moves no more",
        without(command(&["operation", "watch"]), CLUSTERS),
    ),
    other(
        Get,
        "/v1/operations/{operation}/events",
        Some(Viewer),
        "An operation as it moves",
        Does::OperationEvents,
    ),
    other(
        Get,
        "/v1/events",
        Some(Viewer),
        "All operations as they move",
        Does::Events,
    ),
    route(
        Post,
        "/v1/operations/{operation}/pause",
        Operator,
        "Stops an operation until it is resumed",
        command(&["operation", "pause"]),
    ),
    route(
        Post,
        "/v1/operations/{operation}/resume",
        Operator,
        "Goes on with an operation",
        without(command(&["operation", "resume"]), CLUSTERS),
    ),
    route(
        Post,
        "/v1/operations/{operation}/cancel",
        Operator,
        "Gives an operation up and rolls it back",
        without(command(&["operation", "cancel"]), CLUSTERS),
    ),
    route(
        Post,
        "/v1/operations/{operation}/undo",
        Operator,
        "Takes a mend back",
        without(command(&["undo"]), CLUSTERS),
    ),
    route(
        Post,
        "/v1/operations/{operation}/abandon",
        Admin,
        "Ends an operation whose repository is gone for good",
        command(&["operation", "abandon"]),
    ),
    route(
        Delete,
        "/v1/operations/{operation}",
        Admin,
        "Removes the record of an operation that is over",
        command(&["operation", "forget"]),
    ),
    // Work.
    route(
        Post,
        "/v1/collections/{name}/backups",
        Operator,
        "Takes a backup",
        without(named(&["backup"], &[("name", "collection")]), CLUSTERS),
    ),
    route(
        Post,
        "/v1/collections/{name}/restores",
        Operator,
        "Restores or mends tables, or says what that would do",
        without(
            named(&["restore"], &[("name", "what")]),
            PLACES_AND_CLUSTERS,
        ),
    ),
    route(
        Post,
        "/v1/plans/{plan}",
        Operator,
        "Carries out what a preview of a mend has shown, or refuses where it has drifted",
        Command {
            words: &["restore"],
            names: &[],
            without: &[
                "what",
                "to",
                "tables",
                "if_exists",
                "rename",
                "strategy",
                "from",
                "in_place",
                "data",
                "schema",
                "partitions",
                "exclude_tables",
                "exclude_engines",
                "exclude_disks",
                "database_mapping",
                "restore_order",
                "on_concurrent_insert",
                "keep_undo",
                "no_undo",
                "check_table",
                "check_kept",
                "replica_path",
                "apply_mutations",
                "force_untried",
                "dry_run",
                "range",
                "include_conflicting",
                "erase_newer",
                "accept_schema",
                "max_write_wait",
                "where",
                "keep_newer_than",
                "only_changed_by",
                "include_rewritten",
                "timezone",
                "round",
                "shard",
                "if_different",
                "cluster",
                "http_port",
            ],
            fixed: &[],
            carries_out: true,
            rows: Rows::None,
        },
    ),
    route(
        Post,
        "/v1/collections/{name}/verify",
        Operator,
        "Proves backups, and with live that tables are as in them",
        without(named(&["verify"], &[("name", "what")]), CLUSTERS),
    ),
    route(
        Post,
        "/v1/collections/{name}/drills",
        Operator,
        "Restores a sample of a backup beside the live tables, proves it, and removes it again",
        named(&["drill"], &[("name", "what")]),
    ),
    // What removes.
    route(
        Post,
        "/v1/collections",
        Admin,
        "Makes a collection of tables",
        command(&["collection", "create"]),
    ),
    route(
        Delete,
        "/v1/collections/{name}",
        Admin,
        "Forgets a collection; its tables and backups stay",
        command(&["collection", "drop"]),
    ),
    route(
        Post,
        "/v1/collections/{name}/forget-repository",
        Admin,
        "Lets go of the changes that are kept for a repository",
        command(&["collection", "forget-repository"]),
    ),
    route(
        Post,
        "/v1/collections/{name}/prune",
        Admin,
        "Keeps the backups that rules want, or says which they are",
        named(&["prune"], &[("name", "collection")]),
    ),
    route(
        Post,
        "/v1/collections/{name}/compact",
        Admin,
        "Folds a run of backups into its last one",
        named(&["chain", "compact"], &[("name", "collection")]),
    ),
    route(
        Delete,
        "/v1/backups/{backup}",
        Admin,
        "Removes a backup",
        command(&["delete"]),
    ),
    route(
        Delete,
        "/v1/collections/{name}/backups/{backup}",
        Admin,
        "Removes a backup of a collection",
        command(&["delete"]),
    ),
    route(
        Post,
        "/v1/repository/tidy",
        Admin,
        "Removes files that no backup needs",
        command(&["repository", "tidy"]),
    ),
    // Schedules and what was asked.
    route(
        Get,
        "/v1/schedules",
        Viewer,
        "The schedules",
        command(&["schedule", "list"]),
    ),
    route(
        Get,
        "/v1/schedules/{name}",
        Viewer,
        "A schedule and its last runs",
        command(&["schedule", "show"]),
    ),
    route(
        Post,
        "/v1/schedules",
        Admin,
        "Adds a schedule",
        command(&["schedule", "add"]),
    ),
    route(
        Delete,
        "/v1/schedules/{name}",
        Admin,
        "Removes a schedule",
        command(&["schedule", "remove"]),
    ),
    route(
        Post,
        "/v1/schedules/{name}/pause",
        Admin,
        "Pauses a schedule until it is resumed",
        command(&["schedule", "pause"]),
    ),
    route(
        Post,
        "/v1/schedules/{name}/resume",
        Admin,
        "Goes on with a schedule that was paused",
        command(&["schedule", "resume"]),
    ),
    route(
        Post,
        "/v1/schedules/{name}/run",
        Operator,
        "Does what a schedule does, now",
        command(&["schedule", "run"]),
    ),
    route(
        Get,
        "/v1/audit",
        Admin,
        "What was asked that changes something, the newest first",
        command(&["audit"]),
    ),
    // The cluster that the target is.
    route(
        Get,
        "/v1/cluster",
        Viewer,
        "The servers of the cluster that is the target, and how each is",
        without(command(&["cluster", "show"]), CLUSTERS),
    ),
    route(
        Get,
        "/v1/tokens",
        Admin,
        "The tokens: whose they are, and what they may",
        without(command(&["token", "list"]), JOURNAL),
    ),
    route(
        Post,
        "/v1/tokens",
        Admin,
        "Makes a token, which the answer alone shows",
        without(command(&["token", "create"]), JOURNAL),
    ),
    route(
        Delete,
        "/v1/tokens/{name}",
        Admin,
        "Takes a token back, at once; that of who asks stays",
        without(command(&["token", "revoke"]), JOURNAL),
    ),
    // The server itself.
    other(Get, "/v1/whoami", Some(Viewer), "Who asks", Does::WhoAmI),
    other(
        Get,
        "/v1/openapi.json",
        Some(Viewer),
        "This description",
        Does::OpenApi,
    ),
    other(
        Get,
        "/metrics",
        Some(Viewer),
        "What is counted and measured, for Prometheus",
        Does::Metrics,
    ),
    other(
        Get,
        "/health/live",
        None,
        "Whether the process is there",
        Does::Live,
    ),
    other(
        Get,
        "/health/ready",
        None,
        "Whether it can work",
        Does::Ready,
    ),
    // The dashboard.
    dashboard::INDEX,
    dashboard::SCRIPT,
    dashboard::PAGE,
    dashboard::COLLECTIONS,
    dashboard::OPERATIONS,
    dashboard::SCHEDULES,
    dashboard::TABLES,
    dashboard::STYLE,
    dashboard::ICON,
    other(
        Post,
        "/login",
        None,
        "Gives a browser that brings a token a cookie",
        Does::LogIn,
    ),
    other(Post, "/logout", None, "Takes the cookie back", Does::LogOut),
];

/// The route of a command with these arguments: the first whose path can be made of them.
pub fn route_of(words: &[&str], has: &dyn Fn(&str) -> bool) -> Option<&'static Route> {
    ROUTES.iter().find(|route| {
        let Some(command) = route.command() else {
            return false;
        };
        // A plan is a file of the client.
        let mut parts = route.parameters();
        command.words == words
            && !command.carries_out
            && parts.all(|part| has(command.argument(part)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_finds_the_route_that_its_arguments_make() {
        let path = |words: &[&str], given: &[&str]| {
            route_of(words, &|name| given.contains(&name)).map(|route| route.path)
        };
        assert_eq!(path(&["operation", "list"], &[]), Some("/v1/operations"));
        assert_eq!(path(&["list"], &[]), Some("/v1/backups"));
        assert_eq!(path(&["show"], &["backup"]), Some("/v1/backups/{backup}"));
        assert_eq!(
            path(&["restore"], &["what", "to"]),
            Some("/v1/collections/{name}/restores")
        );
        assert_eq!(path(&["restore"], &["plan"]), None);
        assert_eq!(path(&["demo"], &[]), None);
    }
}
