//! Puts what tasks brought about into the operation.

use std::sync::Arc;

use super::step::StepKind;
use super::task::{MendedRows, MendedShard, Task, TaskOutput, TaskSpec, TaskStatus};
use super::{Operation, TouchedDraft};

impl Task {
    /// Takes what a report brings. Segments that it names again are known; there is none missing before them.
    pub(super) fn bring(&mut self, output: TaskOutput, segments_before: usize) {
        match (&mut self.output, output) {
            (TaskOutput::Segments(known), TaskOutput::Segments(more)) => {
                let again = known.len().saturating_sub(segments_before);
                known.extend(more.into_iter().skip(again));
            }
            // It tells that it goes on, and no more.
            (TaskOutput::Segments(_), TaskOutput::None) => {}
            (output, brought) => *output = brought,
        }
    }
}

impl Operation {
    /// Keeps what a task that is done brought about, where it has its place by itself.
    pub(super) fn absorb_done(&mut self, at: u32) {
        let task = &self.tasks[at as usize];
        if !matches!(
            task.output,
            TaskOutput::Draft(_) | TaskOutput::Segments(_) | TaskOutput::Found { .. }
        ) {
            return;
        }
        let is_unproved = matches!(&task.spec, TaskSpec::Copy { digest: None, .. });
        let copied = match &task.spec {
            TaskSpec::Copy { path, shard, .. } | TaskSpec::Fold { path, shard, .. } => {
                Some((path.clone(), *shard))
            }
            _ => None,
        };
        let mut output = TaskOutput::None;
        self.change_task(at, |task| output = std::mem::take(&mut task.output));
        match (output, &mut self.draft, copied) {
            (TaskOutput::Draft(draft), own, _) => {
                *own = Some(Arc::from(draft));
                self.touched.draft = TouchedDraft::All;
            }
            (TaskOutput::Segments(segments), Some(draft), Some((path, shard))) => {
                let draft = Arc::make_mut(draft);
                draft.put_shard(&path, shard, segments);
                if is_unproved && draft.parent.is_none() {
                    draft.sum_up_shard(&path, shard);
                }
                self.touched.shard(path, shard);
            }
            (TaskOutput::Found { segments, digest }, Some(draft), Some((path, shard))) => {
                Arc::make_mut(draft).put_found(&path, shard, segments, digest);
                self.touched.shard(path, shard);
            }
            _ => {}
        }
    }

    /// Keeps what the tasks of the step counted and brought about, in their order.
    pub(super) fn absorb(&mut self) {
        let counts = self.tasks.counts();
        self.head.counts = counts;
        // Where all shards waited for each other, the next step counts what they have done so far again.
        if !self.head.request.holds_after(self.step_kind()) {
            self.head.rows_before += self.head.task_rows();
            self.head.bytes_before += counts.bytes;
        }
        let step = self.current_step;
        if let Some(planned) = self.head.steps.get_mut(step as usize) {
            planned.bytes_total = counts.bytes;
            self.touched.steps.insert(step);
        }
        let mended_before = self.mended.len();
        let mut lacks = Vec::new();
        for at in 0..self.tasks.len() {
            // Journals from before that was kept when the task was done have it in the task.
            if self.tasks[at].status == TaskStatus::Done {
                self.absorb_done(at as u32);
            }
            let task = &self.tasks[at];
            if matches!(task.output, TaskOutput::None) {
                continue;
            }
            let (spec, output) = (task.spec.clone(), task.output.clone());
            self.tasks
                .change(at as u32, |task| task.output = TaskOutput::None);
            match output {
                TaskOutput::Mended(rows) => {
                    self.head.mended_rows += rows;
                    if let TaskSpec::MendRows {
                        path,
                        range,
                        method,
                        ..
                    } = spec
                    {
                        self.mended.push(MendedShard {
                            path,
                            range,
                            rows,
                            method,
                        });
                    }
                }
                TaskOutput::Published {
                    writers_waited_ms,
                    again,
                } => {
                    for shard in again {
                        let is_it = |known: &MendedShard| {
                            known.path == shard.path && known.range == shard.range
                        };
                        if let Some(at) = self.mended.iter().position(is_it) {
                            self.mended[at].rows = shard.rows;
                            let first = self.touched.mended_from.unwrap_or(at);
                            self.touched.mended_from = Some(first.min(at));
                        }
                    }
                    self.head.mended_rows = MendedRows {
                        writers_waited_ms,
                        ..MendedRows::default()
                    };
                    for shard in &self.mended {
                        self.head.mended_rows += shard.rows;
                    }
                }
                TaskOutput::Parts(list) => {
                    if let (Some(draft), TaskSpec::CopyParts { table_idx, .. }) =
                        (&mut self.draft, spec)
                    {
                        Arc::make_mut(draft).put_part_list(table_idx, list);
                        self.touched.draft = TouchedDraft::All;
                    }
                }
                TaskOutput::Shard {
                    shard,
                    replica,
                    contents,
                } => {
                    let draft = self.draft.as_mut().map(Arc::make_mut);
                    if let Some(store) = draft.and_then(|draft| draft.part_store.as_mut()) {
                        store.add_shard(&shard, &replica, *contents);
                        self.touched.draft = TouchedDraft::All;
                    }
                }
                TaskOutput::Lacks(reason) => lacks.push((spec, reason)),
                // Kept when the task was done; of one that was not, nobody needs them.
                TaskOutput::Segments(_)
                | TaskOutput::Found { .. }
                | TaskOutput::Draft(_)
                | TaskOutput::None => {}
            }
        }
        if self.mended.len() > mended_before {
            self.touched.mended_from.get_or_insert(mended_before);
        }
        if self.step_kind() == StepKind::Rollback {
            let left: Vec<String> = lacks.into_iter().map(|(_, reason)| reason).collect();
            if !left.is_empty() {
                self.head.error = Some(left.join("; "));
            }
            return;
        }
        // At the end: lists go to tables by their places.
        if let Some(draft) = &mut self.draft {
            for (spec, reason) in lacks {
                if let TaskSpec::CopyParts { table, .. } = spec {
                    Arc::make_mut(draft).lack(table, reason);
                    self.touched.draft = TouchedDraft::All;
                }
            }
        }
    }
}
