//! Mutations that are given again.
//!
//! *Crash*: an update must not be done twice. The caller has noted which mutations there were before;
//! one that is not among them and says the same is ours.

use mendb_model::part::statement::{Token, located};
use mendb_model::part::{Mutation, TableName};
use serde::Deserialize;

use super::ClickHouse;
use super::client::literal;
use super::disks::is_table;
use crate::error::{EngineError, Remedy, Result};

/// The server answers when it is done.
const WAIT: [(&str, &str); 1] = [("mutations_sync", "1")];

impl ClickHouse {
    /// Ids of all mutations of a table that the server remembers.
    pub(super) fn mutation_ids(&self, name: &TableName) -> Result<Vec<String>> {
        let mutations = self.all_mutations(name)?.into_iter();
        Ok(mutations.map(|mutation| mutation.mutation_id).collect())
    }

    fn all_mutations(&self, name: &TableName) -> Result<Vec<Mutation>> {
        #[derive(Deserialize)]
        struct Row {
            mutation_id: String,
            command: String,
        }
        if !self.abilities.mutations {
            return Ok(Vec::new());
        }
        let rows: Vec<Row> = self.client.rows(&format!(
            "SELECT mutation_id, command FROM system.mutations WHERE {}",
            is_table(&self.told_name(name)?, "table")
        ))?;
        let mutations = rows.into_iter().map(|row| Mutation {
            mutation_id: row.mutation_id,
            command: row.command,
            parts_to_do: 0,
        });
        Ok(mutations.collect())
    }

    /// Applies an update or delete to partitions, or to the whole table where the server knows no other
    /// way. Does nothing if that was done since only the known mutations were there.
    pub(super) fn mutate(
        &self,
        name: &TableName,
        command: &str,
        partitions: Option<&[String]>,
        known: &[String],
    ) -> Result<()> {
        let refused = |message: String| EngineError::new(Remedy::Request, message);
        let commands = match partitions {
            Some(ids) if self.abilities.uuids => {
                let of = |id: &String| in_partition(command, Some(id));
                ids.iter().map(of).collect::<Option<Vec<String>>>()
            }
            Some(_) => {
                return Err(refused(format!(
                    "this server applies a mutation only to all partitions of {name}: {command}"
                )));
            }
            None => in_partition(command, None).map(|command| vec![command]),
        };
        let commands = commands.ok_or_else(|| {
            refused(format!(
                "{command} is no update and no delete: apply it yourself to {name}"
            ))
        })?;
        let Some(first) = commands.first() else {
            return Ok(());
        };
        let was_given = |mutation: &Mutation| {
            !known.contains(&mutation.mutation_id) && words(&mutation.command) == words(first)
        };
        if self.all_mutations(name)?.iter().any(was_given) {
            return Ok(());
        }
        let told = self.told_name(name)?;
        let sql = format!("ALTER TABLE {} {}", told.sql(), commands.join(", "));
        let given = self.client.execute_with(&sql, &WAIT);
        given.map_err(|error| error.during(format_args!("apply {command} to {name}")))
    }
}

/// An update or delete as it is written in `ALTER TABLE`, for one partition if there is one.
fn in_partition(command: &str, partition_id: Option<&str>) -> Option<String> {
    let command = without_brackets(command);
    let tokens = located(command);
    let is_word = |at: usize, word: &str| matches!(tokens.get(at), Some((Token::Word(w), _)) if w.eq_ignore_ascii_case(word));
    if !is_word(0, "UPDATE") && !is_word(0, "DELETE") {
        return None;
    }
    let mut depth = 0usize;
    let condition = (0..tokens.len()).find(|at| {
        match &tokens[*at].0 {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && is_word(*at, "WHERE")
    })?;
    let (head, condition) = command.split_at(tokens[condition].1.start);
    // What a lightweight delete is to the server.
    let hides_rows = words(head) == words("UPDATE _row_exists = 0");
    let head = if hides_rows {
        "DELETE"
    } else {
        head.trim_end()
    };
    let partition = partition_id.map(|id| format!(" IN PARTITION ID {}", literal(id)));
    Some(format!(
        "{head}{} {condition}",
        partition.unwrap_or_default()
    ))
}

/// Some servers tell a command in brackets.
fn without_brackets(command: &str) -> &str {
    let inner = command.trim().strip_prefix('(');
    let inner = inner.and_then(|inner| inner.strip_suffix(')'));
    inner.unwrap_or(command).trim()
}

fn words(command: &str) -> Vec<Token<'_>> {
    let tokens = located(without_brackets(command)).into_iter();
    tokens.map(|(token, _)| token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_written_for_a_partition() {
        let of = |command| in_partition(command, Some("a'b"));
        assert_eq!(
            of("(UPDATE v = (SELECT 1 WHERE 1) WHERE a < 5)").as_deref(),
            Some("UPDATE v = (SELECT 1 WHERE 1) IN PARTITION ID 'a\\'b' WHERE a < 5")
        );
        assert_eq!(
            of("(UPDATE _row_exists = 0 WHERE a = 1)").as_deref(),
            Some("DELETE IN PARTITION ID 'a\\'b' WHERE a = 1")
        );
        assert_eq!(
            in_partition("DELETE WHERE a = 1", None).as_deref(),
            Some("DELETE WHERE a = 1")
        );
        for command in ["MATERIALIZE TTL", "DROP COLUMN a", "", "()"] {
            assert_eq!(of(command), None);
        }
        assert_eq!(words("(DELETE WHERE a=1)"), words("DELETE  WHERE a = 1"));
    }
}
