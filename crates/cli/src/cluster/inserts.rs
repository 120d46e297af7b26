//! The programs that stop the inserts of the users of a cluster, and start them again: those that the settings name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mendb_engines::agents::Inserts;
use mendb_engines::{EngineError, Remedy};

use crate::failure::{Failure, FailureKind};
use crate::program_of_user::run_program;
use crate::settings::Settings;

/// How long the one that starts them may take, at least: to end it early would leave them stopped.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Two programs of the settings.
struct Programs {
    cluster: String,
    stop: PathBuf,
    start: PathBuf,
    limit: Duration,
}

/// What stops the inserts of a cluster, if the settings name it.
///
/// # Errors
/// They name what stops them, and not what starts them, or the other way round.
pub fn of_settings(
    settings: &Settings,
    cluster: &str,
) -> Result<Option<Box<dyn Inserts>>, Failure> {
    match (
        &settings.cluster_stop_inserts,
        &settings.cluster_start_inserts,
    ) {
        (None, None) => Ok(None),
        (Some(stop), Some(start)) => Ok(Some(Box::new(Programs {
            cluster: cluster.to_owned(),
            stop: stop.clone(),
            start: start.clone(),
            limit: Duration::from_secs(settings.cluster_stop_inserts_s),
        }))),
        _ => Err(Failure::new(
            FailureKind::FixEnvironment,
            "the settings name only one of cluster.stop_inserts and cluster.start_inserts",
        )
        .hint("name a program for each, or none")),
    }
}

impl Programs {
    fn run(&self, program: &Path, limit: Duration) -> Result<(), EngineError> {
        let seconds = self.limit.as_secs().to_string();
        let environment = [
            ("MENDB_CLUSTER", self.cluster.as_str()),
            ("MENDB_STOPPED_S", seconds.as_str()),
        ];
        run_program(program, &environment, &[], limit)
            .map_err(|why| EngineError::new(Remedy::Repair, why))
    }
}

impl Inserts for Programs {
    fn stop(&self) -> Result<(), EngineError> {
        self.run(&self.stop, self.limit)
    }

    fn start(&self) -> Result<(), EngineError> {
        self.run(&self.start, self.limit.max(START_LIMIT))
    }

    fn limit(&self) -> Duration {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_program_without_the_other_is_refused() {
        let settings = |stop: Option<&str>, start: Option<&str>| Settings {
            cluster_stop_inserts: stop.map(PathBuf::from),
            cluster_start_inserts: start.map(PathBuf::from),
            ..Settings::default()
        };
        assert!(of_settings(&settings(None, None), "c").unwrap().is_none());
        for wrong in [settings(Some("stop"), None), settings(None, Some("start"))] {
            let failure = of_settings(&wrong, "c").err().unwrap().to_string();
            assert!(failure.contains("cluster.start_inserts"), "{failure}");
        }
        let programs = of_settings(&settings(Some("false"), Some("true")), "c");
        let programs = programs.unwrap().unwrap();
        let why = programs.stop().unwrap_err().to_string();
        assert!(why.contains("false ended with"), "{why}");
        programs.start().unwrap();
    }
}
