//! What a user can do about an operation that stands in the way.

use mendb_model::operation::{OperationHead, State};

/// What moves an operation on and, where its step allows that, what gives it up, as commands.
pub fn ways_on(operation: &OperationHead) -> String {
    let id = &operation.operation_id;
    let on = match operation.state {
        State::Failed => format!("mendb operation resume {id} continues it"),
        _ if operation.is_paused() => {
            format!("it is paused; mendb operation resume {id} continues it")
        }
        _ => format!("mendb operation watch {id} follows it to its end"),
    };
    if operation.step_kind().can_cancel() {
        format!("{on}, mendb operation cancel {id} rolls it back")
    } else {
        on
    }
}

#[cfg(test)]
mod tests {
    use mendb_model::name::{BackupId, BackupKind};
    use mendb_model::operation::{BackupRequest, Limits, Operation, Request, plan};

    use super::*;

    #[test]
    fn cancelling_is_offered_in_the_steps_that_take_it() {
        let request = Request::Backup(BackupRequest {
            collection: "shop".into(),
            backup_id: BackupId::new(0, BackupKind::Full).unwrap(),
            label: None,
            tables: vec!["orders".into()],
            parent: None,
            stream: "shop/1".into(),
            since_version: None,
            old_streams: Vec::new(),
            keeps_changes: false,
            found: None,
        });
        let steps = plan(&request, &[]).unwrap();
        let repository = ("id".to_owned(), "memory:".to_owned());
        let id = "backup-1".parse().unwrap();
        let mut operation = Operation::new(id, request, steps, repository, Limits::default(), 0);
        for step in 0..u32::try_from(operation.steps.len()).unwrap() {
            operation.current_step = step;
            for state in [State::Waiting, State::Failed] {
                operation.state = state;
                let offers = ways_on(&operation).contains("operation cancel");
                assert_eq!(offers, operation.step_kind().can_cancel(), "step {step}");
            }
        }
    }
}
