//! Promises of the machine over random events.

use proptest::prelude::*;

use super::tests::{CANCEL, RESUME, SECOND_MS, at, backup, cut_lost, error, restore, tasks};
use super::*;

/// A thing that users, workers or time do next.
#[derive(Debug, Clone)]
enum Act {
    Answer { which: usize, status: ReportStatus },
    Silence { ms: u64 },
    Boot,
    Pause,
    Resume,
    Cancel,
    ClockBack { ms: u64 },
    LoseSnapshot { which: usize, stale: bool },
    AllocationFails { retriable: bool },
    Stale,
}

fn act() -> impl Strategy<Value = Act> {
    let status = prop_oneof![
        4 => Just(ReportStatus::Success),
        2 => Just(ReportStatus::InProgress),
        2 => Just(error(true)),
        1 => Just(error(false)),
    ];
    prop_oneof![
        10 => (0usize..8, status).prop_map(|(which, status)| Act::Answer { which, status }),
        3 => (0u64..700_000).prop_map(|ms| Act::Silence { ms }),
        1 => Just(Act::Boot),
        1 => Just(Act::Pause),
        2 => Just(Act::Resume),
        1 => Just(Act::Cancel),
        1 => any::<bool>().prop_map(|retriable| Act::AllocationFails { retriable }),
        1 => Just(Act::Stale),
        1 => (0u64..7_200_000).prop_map(|ms| Act::ClockBack { ms }),
        1 => (0usize..8, any::<bool>()).prop_map(|(which, stale)| Act::LoseSnapshot { which, stale }),
    ]
}

/// What the world owes the machine: it carries out effects as the coordinator does.
struct World {
    operation: Operation,
    now_ms: u64,
    allocate: bool,
    advance: bool,
    running: Vec<(u32, u32)>,
    stopping: Vec<u32>,
    percent: f64,
}

/// What is not said to be touched is as it was: it is not written down.
fn check_touched(before: &Operation, after: &Operation, touched: &Touched) {
    let all = before.tasks.len().max(after.tasks.len());
    if touched.left.is_none() && !touched.allocated {
        for at in (0..all).filter(|at| !touched.tasks.contains_key(&(*at as u32))) {
            assert_eq!(before.tasks.get(at), after.tasks.get(at));
        }
    }
    assert!(touched.left.is_some() || before.steps.len() == after.steps.len());
    for at in (0..after.steps.len()).filter(|at| !touched.steps.contains(&(*at as u32))) {
        assert_eq!(before.steps.get(at), after.steps.get(at));
    }
    if touched.draft == TouchedDraft::Nothing {
        assert_eq!(before.draft, after.draft);
    }
    assert_eq!(before.request, after.request);
    assert!(touched.mended_from.is_some() || before.mended == after.mended);
    if !touched.standing {
        let mut later = after.head.clone();
        later.updated_at_ms = before.updated_at_ms;
        assert_eq!(later, before.head);
    }
}

impl World {
    fn send(&mut self, event: Event) {
        let before = self.operation.clone();
        let Ok(outcome) = self.operation.step(at(self.now_ms), event) else {
            assert_eq!(before, self.operation);
            return;
        };
        check_touched(&before, &self.operation, &outcome.touched);
        for effect in outcome.effects {
            match effect {
                Effect::Allocate => self.allocate = true,
                Effect::Advance => self.advance = true,
                Effect::Propose { shard_idx } => {
                    let attempt = self.operation.tasks[shard_idx as usize].attempt;
                    assert!(
                        !self.running.contains(&(shard_idx, attempt)),
                        "one attempt is requested once"
                    );
                    self.running.push((shard_idx, attempt));
                }
                Effect::Abort { shard_idx, .. } => self.stopping.push(shard_idx),
                Effect::Finished => assert!(self.operation.state.is_terminal()),
            }
        }
        let operation = &self.operation;
        let in_flight = operation
            .tasks
            .iter()
            .filter(|t| t.status == TaskStatus::Running)
            .count();
        assert!(in_flight <= operation.limits.window(), "the window holds");
        let progress = operation.progress();
        assert!(progress.percent >= self.percent, "progress never falls");
        assert_eq!(
            progress.percent == 100.0,
            operation.state == State::Done,
            "all is done at 100 % only"
        );
        self.percent = progress.percent;
        if operation.state == State::Applying {
            assert!(
                operation.tasks.iter().all(|t| t.status == TaskStatus::Done),
                "the barrier holds"
            );
        }
        let mut json = serde_json::to_value(&operation.head).unwrap();
        json["request"] = serde_json::to_value(&operation.request).unwrap();
        let mut read: OperationHead = serde_json::from_value(json).unwrap();
        read.steps.clone_from(&operation.steps);
        assert_eq!(read, operation.head, "persisted as it is");
        assert_eq!(operation.counts, operation.tasks.counts());
    }

    fn answer(&mut self, which: usize, status: ReportStatus) {
        if self.running.is_empty() {
            return;
        }
        let (shard_idx, attempt) = self.running[which % self.running.len()];
        if status != ReportStatus::InProgress {
            self.running
                .retain(|running| *running != (shard_idx, attempt));
        }
        let Some(task) = self.operation.tasks.get(shard_idx as usize) else {
            return;
        };
        self.send(Event::Reported(Report {
            step: self.operation.current_step,
            shard_idx,
            attempt,
            status,
            last_key: None,
            rows: task.rows + 1,
            bytes: task.bytes + 7,
            output: TaskOutput::None,
            segments_before: 0,
        }));
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Answer { which, status } => self.answer(which, status),
            Act::Silence { ms } => {
                self.now_ms += ms;
                self.send(Event::Tick);
            }
            Act::ClockBack { ms } => self.now_ms = self.now_ms.saturating_sub(ms),
            Act::LoseSnapshot { which, stale } => {
                let Some(&(shard_idx, attempt)) = self.running.get(which) else {
                    return;
                };
                if !stale {
                    self.running.remove(which);
                }
                self.send(Event::Reported(Report {
                    step: self.operation.current_step,
                    shard_idx,
                    attempt: attempt - u32::from(stale),
                    status: cut_lost(),
                    last_key: None,
                    rows: 0,
                    bytes: 0,
                    output: TaskOutput::None,
                    segments_before: 0,
                }));
            }
            Act::Boot => {
                self.running.clear();
                self.stopping.clear();
                (self.allocate, self.advance) = (false, false);
                self.send(Event::Booted);
            }
            Act::Pause => self.send(Event::Pause),
            Act::Resume => self.send(RESUME),
            Act::Cancel => self.send(CANCEL),
            Act::AllocationFails { retriable } => {
                if std::mem::take(&mut self.allocate) {
                    let step = self.operation.current_step;
                    self.send(Event::AllocationFailed {
                        step,
                        retriable,
                        is_cut_lost: false,
                        message: "no list".into(),
                    });
                }
            }
            Act::Stale => self.send(Event::Reported(Report {
                step: self.operation.current_step + 1,
                shard_idx: 0,
                attempt: 1,
                status: ReportStatus::Success,
                last_key: None,
                rows: u64::MAX,
                bytes: u64::MAX,
                output: TaskOutput::None,
                segments_before: 0,
            })),
        }
    }

    /// One turn of a world without faults. Returns whether there was anything to do.
    fn serve(&mut self) -> bool {
        if std::mem::take(&mut self.allocate) {
            let step = self.operation.current_step;
            let count = step as usize % 3;
            self.send(Event::Allocated {
                step,
                tasks: tasks(count),
            });
        } else if std::mem::take(&mut self.advance) {
            self.send(Event::Advance);
        } else if let Some(shard_idx) = self.stopping.pop() {
            let which = self
                .running
                .iter()
                .position(|(running, _)| *running == shard_idx);
            if let Some(which) = which {
                self.answer(which, ReportStatus::Stopped);
            }
        } else if !self.running.is_empty() {
            self.answer(0, ReportStatus::Success);
        } else if let Some(wake_at_ms) = self.operation.wake_at_ms() {
            self.now_ms = self.now_ms.max(wake_at_ms);
            self.send(Event::Tick);
        } else {
            assert!(self.operation.awaits_user(), "{:?}", self.operation);
            return false;
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_run_of_events_ends_or_waits_for_a_user(
        script in proptest::collection::vec((act(), any::<bool>()), 0..80),
        is_backup: bool,
        budget_s in prop_oneof![Just(86_400u64), 1u64..900],
    ) {
        let mut operation = if is_backup { backup() } else { restore() };
        operation.limits.step_budget_ms = budget_s * SECOND_MS;
        operation.limits.operation_budget_ms = budget_s * 2 * SECOND_MS;
        operation.step_deadline_ms = operation.limits.step_budget_ms;
        operation.operation_deadline_ms = operation.limits.operation_budget_ms;
        let mut world = World {
            operation,
            now_ms: 0,
            allocate: false,
            advance: false,
            running: Vec::new(),
            stopping: Vec::new(),
            percent: 0.0,
        };
        world.send(Event::Booted);
        for (act, serve) in script {
            world.act(act);
            if serve {
                world.serve();
            }
        }
        let mut turns = 0;
        while world.serve() {
            turns += 1;
            prop_assert!(turns < 500, "no livelock: {:?}", world.operation);
        }
        let operation = &world.operation;
        prop_assert!(operation.state.is_terminal() || operation.is_paused(), "{operation:?}");
    }
}
