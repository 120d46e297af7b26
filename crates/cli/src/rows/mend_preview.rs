//! What a mend of live tables would do, range by range.

use std::time::Duration;

use mendb_model::name::BackupKind;
use mendb_model::operation::{
    ChainLink, ChosenMethod, FindBy, MendedRows, RowTableMend, ShardMethod, UntoldTable,
};
use mendb_service::{Conflicts, HolderFate, RowMendPreview, ShardPreview};

use crate::human;
use crate::output::{Field, table};

/// The plan for people.
pub fn describe(preview: &RowMendPreview) -> String {
    let mut rewinds = preview.tables.iter();
    let mut text = match rewinds.find_map(|mended| mended.scope.rewind.as_ref()) {
        Some(rewind) => format!(
            "{}: {} is taken back\nlooks at the rows that it wrote, and at later writes up to backup {} and since\n\n",
            preview.collection, rewind.changed_by, preview.backup_id
        ),
        None => format!(
            "{} back to {}\n{}\n\n",
            preview.collection,
            preview.backup_id,
            find_by(&preview.find_by)
        ),
    };
    if let Some(target) = &preview.of_target {
        text += &format!("the backup is of another target, {target}\n\n");
    }
    for mended in &preview.tables {
        if !mended.added_columns.is_empty() {
            text += &format!(
                "{}: {} came since the backup and will be NULL in the rows that are brought back\n",
                mended.table,
                mended.added_columns.join(", ")
            );
        }
        if mended.create {
            text += &format!("{} does not exist: it is created\n", mended.table);
        }
    }
    for (table, keys) in &preview.ranges {
        text += &format!("{table}: only the keys {keys}\n");
    }
    for mended in &preview.tables {
        text += &chosen_rows(mended);
    }
    text += &in_the_way(&preview.conflicts);
    text += &stay(preview);
    text += &stay_rewritten(preview);
    for note in not_known(&preview.tables, &preview.untold, &preview.collection) {
        text += &format!("{note}\n");
    }
    for note in &preview.relatives {
        text += &format!("note: {note}\n");
    }
    text += &table(&preview.shards, &fields());
    text += &format!("\ntotal: {}\n", sentence(&preview.total));
    text += &format!(
        "needs about {} of the target's disk{}\n",
        human::bytes(preview.disk_bytes),
        match preview.milliseconds {
            Some((least, most)) => format!(
                ", and {} to {} going by the mends so far",
                human::duration(Duration::from_millis(least)),
                human::duration(Duration::from_millis(most))
            ),
            None => "; how long it takes is not known before the first mend of a target".to_owned(),
        }
    );
    if let Some(most) = preview.most_bytes_per_s {
        text += &format!(
            "until writers wait, rows come and go at {} a second at most (postgres.bytes_per_s)\n",
            human::bytes(most)
        );
    }
    if let Some((least, most)) = preview.writers_wait_ms {
        let [least, most] = [least, most].map(|ms| human::duration(Duration::from_millis(ms)));
        text += &format!("writers would wait {least} to {most}, going by the mends so far\n");
    }
    if let Some(most) = preview.max_write_wait_ms {
        let most = human::duration(Duration::from_millis(most));
        text += &format!("writers wait {most} at most: what takes longer is given up\n");
    }
    text += if preview.total.upserted + preview.total.erased == 0 {
        "nothing would be written\n"
    } else {
        match preview.before {
            BackupKind::Incremental => {
                "the state before would be kept as an increment: mendb undo can take the mend back\n"
            }
            BackupKind::Full => {
                "the state before would be kept as a full backup: mendb undo can take the mend back\n"
            }
        }
    };
    text
}

/// What is not known of transactions that are taken back, in sentences.
pub fn not_known(tables: &[RowTableMend], untold: &[UntoldTable], collection: &str) -> Vec<String> {
    let mut rewinds = tables.iter();
    let Some(rewind) = rewinds.find_map(|mended| mended.scope.rewind.as_ref()) else {
        return Vec::new();
    };
    let by = rewind.changed_by;
    let told = untold.iter();
    let mut notes: Vec<String> = told
        .map(|untold| format!("note: not known, and left as it is, is what {by} did to {untold}"))
        .collect();
    notes.push(format!(
        "note: what {by} did to tables outside of collection {collection} is not known, and left as it is"
    ));
    notes
}

/// Which rows of a table are mended, if not all.
fn chosen_rows(mended: &RowTableMend) -> String {
    let RowTableMend { table, scope, .. } = mended;
    let mut text = String::new();
    if let Some(condition) = &scope.condition {
        text += &format!("{table}: only rows that are or were {condition}\n");
    }
    if let Some(us) = scope.keep_newer_than_us {
        text += &format!("{table}: not rows that were written after {}\n", moment(us));
    }
    if scope.changed_only {
        text += &format!("{table}: only rows that were mended then\n");
    }
    text
}

/// The rows that stay, as they are newer.
fn stay(preview: &RowMendPreview) -> String {
    let count = preview.total.newer;
    if count == 0 {
        return String::new();
    }
    let mut text = format!(
        "{} {}, written since:\n",
        human::rows(count),
        match count {
            1 => "differs and stays",
            _ => "differ and stay",
        }
    );
    for row in &preview.newer {
        text += &format!("  {} {}, {}\n", row.table, row.key, moment(row.written_us));
    }
    let left = count.saturating_sub(preview.newer.len() as u64);
    if left > 0 {
        text += &format!("  and {} more\n", human::count(left));
    }
    text
}

/// The rows that stay, as others wrote them again.
fn stay_rewritten(preview: &RowMendPreview) -> String {
    let count = preview.total.rewritten;
    if count == 0 {
        return String::new();
    }
    let mut text = format!(
        "{}, without --include-rewritten:\n",
        match count {
            1 => "1 row was written again since and stays".to_owned(),
            _ => format!("{} were written again since and stay", human::rows(count)),
        }
    );
    for row in &preview.rewritten {
        let by = match row.by {
            Some(by) => format!(
                "by transaction {}, {}",
                by.transaction,
                moment(by.committed_us)
            ),
            None if row.beside => "not among those that are mended".to_owned(),
            None => "later".to_owned(),
        };
        text += &match &row.with {
            Some(with) => format!(
                "  {} {}, whose row changed its key, for {with}: {by}\n",
                row.table, row.key
            ),
            None => format!("  {} {}, {by}\n", row.table, row.key),
        };
    }
    let left = count.saturating_sub(preview.rewritten.len() as u64);
    if left > 0 {
        text += &format!("  and {} more\n", human::count(left));
    }
    text
}

/// A moment as people write it.
pub fn moment(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |at| at.to_string())
}

/// The rows that stand in the way, by what becomes of them.
fn in_the_way(conflicts: &Conflicts) -> String {
    let mut text = String::new();
    let fates = [
        (
            HolderFate::InBackup,
            "both in the backup, so that the mend is refused: their table got the unique index since",
        ),
        (
            HolderFate::Stays,
            "in the way, so that the mend is refused without --include-conflicting",
        ),
        (HolderFate::BroughtBack, "in the way, so brought back too"),
        (
            HolderFate::Erased,
            "in the way and not in the backup, so erased, which --erase-newer has to allow",
        ),
    ];
    for (fate, title) in fates {
        let rows: Vec<_> = conflicts.of(fate).collect();
        if rows.is_empty() {
            continue;
        }
        text += &format!("{title}:\n");
        for row in &rows {
            text += &format!("  {row}\n");
        }
    }
    let left = conflicts.count.saturating_sub(conflicts.rows.len() as u64);
    if left > 0 {
        text += &format!("and {} more\n", human::count(left));
    }
    text
}

/// How the rows that differ are found.
fn find_by(find_by: &FindBy) -> String {
    match find_by {
        FindBy::Changes { later } => format!(
            "looks at the keys that changed since: in {} and in the change streams",
            later_backups(later)
        ),
        FindBy::Versions { later, .. } => format!(
            "looks at the keys that changed since: in {} and by the versions of rows",
            later_backups(later)
        ),
        FindBy::Digests { reason } => {
            format!("compares digests of key ranges: {reason}")
        }
    }
}

fn later_backups(later: &[ChainLink]) -> String {
    match later.len() {
        0 => "no later backup".to_owned(),
        1 => "1 later backup".to_owned(),
        many => format!("{many} later backups"),
    }
}

/// The method of a shard, and why it is that.
fn chosen(method: Option<&ChosenMethod>) -> String {
    let Some(ChosenMethod { method, keys, of }) = method else {
        return String::new();
    };
    let method = match method {
        ShardMethod::Rows => "rows",
        ShardMethod::Rebuild => "rebuild",
    };
    match of {
        0 => format!("{method}: a part of the shard"),
        of => format!(
            "{method}: {} of {} keys differ or may",
            human::count(*keys),
            human::count(*of)
        ),
    }
}

fn fields() -> [Field<ShardPreview>; 9] {
    [
        Field::left("table", |s: &ShardPreview| s.table.clone()),
        Field::left("keys", |s| s.keys.clone()),
        Field::right("read", |s| human::count(s.rows.read)),
        Field::right("upsert", |s| human::count(s.rows.upserted)),
        Field::right("erase", |s| human::count(s.rows.erased)),
        Field::right("keep", |s| human::count(s.rows.kept)),
        Field::right("fetch", |s| human::bytes(s.rows.fetched_bytes)),
        Field::right("requests", |s| human::count(s.rows.requests)),
        Field::left("method", |s| chosen(s.method.as_ref())),
    ]
}

/// What is done to rows, in a line.
pub fn sentence(rows: &MendedRows) -> String {
    let newer = match rows.newer {
        0 => String::new(),
        newer => format!(", {} written since and left", human::count(newer)),
    };
    let rewritten = match rows.rewritten {
        0 => String::new(),
        rewritten => format!(", {} written again and left", human::count(rewritten)),
    };
    format!(
        "{} read, {} upserted, {} erased, {} kept{newer}{rewritten}; {} in {} to the repository",
        human::rows(rows.read),
        human::count(rows.upserted),
        human::count(rows.erased),
        human::count(rows.kept),
        human::bytes(rows.fetched_bytes),
        match rows.requests {
            1 => "1 request".to_owned(),
            many => format!("{} requests", human::count(many)),
        }
    )
}
