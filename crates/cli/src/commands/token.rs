//! `mendb token`: who may ask a server.

use clap::{Args, Subcommand};
use mendb_model::name::check;
use mendb_server::store::token::Token;
use mendb_server::{Role, Store};
use mendb_service::env;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;
use crate::output::Field;
use crate::serve::waiting::lead_at_once;

/// Say who may ask a server
#[derive(Debug, Args)]
pub struct TokenCommand {
    /// Where the journal is that servers share, if they do, for the first token: when one of them runs, ask it, with
    /// --server [env: MENDB_JOURNAL]
    #[arg(long, global = true, value_name = "URL")]
    pub journal: Option<String>,
    #[command(subcommand)]
    action: TokenAction,
}

/// Tokens of the server of this target.
#[derive(Debug, Subcommand)]
enum TokenAction {
    /// Make a token, and show it once
    ///
    /// A viewer looks; an operator also backs up, mends and steers operations; an admin also removes, changes
    /// schedules and reads the audit. The token goes to stdout and is kept nowhere.
    Create {
        /// Whose it is
        name: String,
        /// What it may
        #[arg(long, value_name = "viewer|operator|admin")]
        role: Role,
        /// When it ends: after a time, as 12h, 30d or 8w, or at one, as 2027-01-31T00:00:00Z
        #[arg(long, value_name = "WHEN", value_parser = ends)]
        expires: Option<End>,
    },
    /// List the tokens
    List,
    /// Take a token back, at once
    Revoke {
        /// Whose it is
        name: String,
    },
}

/// When a token ends.
#[derive(Debug, Clone, Copy)]
pub enum End {
    After { seconds: u64 },
    At { unix_ms: u64 },
}

impl End {
    fn unix_ms(self, now_ms: u64) -> u64 {
        match self {
            Self::After { seconds } => now_ms.saturating_add(seconds.saturating_mul(1000)),
            Self::At { unix_ms } => unix_ms,
        }
    }
}

fn ends(text: &str) -> Result<End, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        let unix_ms = u64::try_from(at.as_millisecond());
        return unix_ms
            .map(|unix_ms| End::At { unix_ms })
            .map_err(|_| "it is before 1970".to_owned());
    }
    const UNITS: [(char, u64); 3] = [('h', 3600), ('d', 86_400), ('w', 7 * 86_400)];
    let seconds = |(unit, seconds): (char, u64)| {
        let number = text.strip_suffix(unit)?.parse::<u32>().ok()?;
        u64::from(number).checked_mul(seconds)
    };
    let seconds = UNITS.into_iter().find_map(seconds);
    seconds
        .map(|seconds| End::After { seconds })
        .ok_or_else(|| "it is no time such as 12h, 30d, 8w or 2027-01-31T00:00:00Z".to_owned())
}

#[derive(Serialize)]
struct Created {
    name: String,
    role: Role,
    token: String,
    expires_at: Option<String>,
}

#[derive(Serialize)]
struct TokenRecord {
    name: String,
    role: Role,
    state: &'static str,
    created_at: String,
    expires_at: Option<String>,
}

impl TokenRecord {
    fn new(token: &Token, now_ms: u64) -> Self {
        Self {
            name: token.name.clone(),
            role: token.role,
            state: match token.revoked_at_ms {
                Some(_) => "revoked",
                None if token.holds_at(now_ms) => "holds",
                None => "expired",
            },
            created_at: human::time(token.created_at_ms),
            expires_at: token.expires_at_ms.map(human::time),
        }
    }
}

impl TokenCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        if context.session.is_some() {
            let store = context.open_store()?;
            return self.action.run(context, &store);
        }
        if let Some(url) = &context.settings.journal {
            let (shared, copy) = lead_at_once(context, url)?;
            let done = self.action.run(context, shared.store());
            shared.replica().release();
            drop(copy);
            return done;
        }
        let directory = context.journal_directory()?;
        if !directory.exists() && matches!(self.action, TokenAction::Create { .. }) {
            context.say(&format!(
                "note: there is no target in {} yet: the token lets into a server that will have it",
                directory.display()
            ));
        }
        self.action.run(context, &Store::open(&directory)?)
    }
}

impl TokenAction {
    fn run(self, context: &Context, store: &Store) -> Result<Verdict, Failure> {
        match self {
            Self::Create {
                name,
                role,
                expires,
            } => {
                check(&name)?;
                let now_ms = env::now_ms();
                let expires_at_ms = expires.map(|end| end.unix_ms(now_ms));
                if let Some(end_ms) = expires_at_ms.filter(|end_ms| *end_ms <= now_ms) {
                    return Err(Failure::misuse(format!(
                        "--expires: a token that ends at {} lets nobody in",
                        human::time(end_ms)
                    ))
                    .hint("name a time to come, such as 30d"));
                }
                let created = Created {
                    token: store.create_token(&name, role, expires_at_ms)?,
                    name,
                    role,
                    expires_at: expires_at_ms.map(human::time),
                };
                context
                    .output
                    .record(&created, |created| format!("{}\n", created.token))?;
            }
            Self::List => {
                let now_ms = env::now_ms();
                let tokens = store.tokens()?;
                let records: Vec<_> = tokens
                    .iter()
                    .map(|it| TokenRecord::new(it, now_ms))
                    .collect();
                context.output.records(
                    &records,
                    &[
                        Field::left("name", |r: &TokenRecord| r.name.clone()),
                        Field::left("role", |r| r.role.to_string()),
                        Field::left("state", |r| r.state.to_owned()),
                        Field::left("created", |r| r.created_at.clone()),
                        Field::left("expires", |r| r.expires_at.clone().unwrap_or_default()),
                    ],
                )?;
            }
            Self::Revoke { name } => {
                if !store.has_token(&name)? {
                    return Err(Failure::input(format!("there is no token {name}"))
                        .hint("mendb token list shows those there are"));
                }
                let caller = context.session.as_ref();
                let caller = caller.and_then(|session| session.caller.as_ref());
                if caller == Some(&name) {
                    return Err(Failure::input(format!(
                        "token {name} is the one that asks, and would lock its owner out"
                    ))
                    .hint("ask with the token of another admin, or on the machine of the server"));
                }
                store.revoke_token(&name)?;
                let record = serde_json::json!({ "revoked": name });
                context
                    .output
                    .report(&record, |_| format!("token {name} revoked\n"))?;
            }
        }
        Ok(Verdict::Done)
    }
}
