//! Commands that are run, shown as they could be typed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Why a runner stopped: what failed and how to see it again.
pub type Outcome = Result<(), String>;

/// The root of the workspace.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}

/// A command line, with variables before it: `RUSTDOCFLAGS=-Dwarnings cargo doc`.
#[derive(Debug, Clone)]
pub struct Step {
    variables: Vec<(&'static str, &'static str)>,
    words: Vec<String>,
}

impl Step {
    /// A command line without quoting: words are separated by spaces.
    pub fn new(line: &str) -> Self {
        Self {
            variables: Vec::new(),
            words: line.split_whitespace().map(str::to_owned).collect(),
        }
    }

    /// With a variable in its environment.
    pub fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    /// Runs it in the root of the workspace, after showing it.
    ///
    /// # Errors
    /// It could not be started or did not succeed; the message has the line that repeats it.
    pub fn run(&self) -> Outcome {
        println!("\n==> {self}");
        let status = self
            .command()
            .status()
            .map_err(|error| format!("cannot start `{self}`: {error}"))?;
        if status.success() {
            Ok(())
        } else {
            Err(format!(
                "failed ({status}); to see it again:\n\n    {self}\n"
            ))
        }
    }

    /// Whether it can be run and succeeds. Says nothing.
    pub fn succeeds(&self) -> bool {
        let status = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    }

    /// What it prints, when it succeeds.
    pub fn output(&self) -> Option<String> {
        let output = self.command().stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then_some(text)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).current_dir(root());
        // What cargo tells this runner about its own package. Build scripts that look at it (ring's) would run again,
        // and all that stands on them be built again, when the same line is typed without the runner, and back.
        let told = std::env::vars_os().map(|(name, _)| name);
        for name in told.filter(|name| is_of_package(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().copied());
        command
    }
}

/// Whether cargo sets a variable for the package that it runs.
fn is_of_package(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, value) in &self.variables {
            if value.contains(' ') {
                write!(f, "{name}='{value}' ")?;
            } else {
                write!(f, "{name}={value} ")?;
            }
        }
        f.write_str(&self.words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_shown_as_it_would_be_typed() {
        let step = Step::new("cargo doc  --no-deps").with("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(
            step.to_string(),
            "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps"
        );
    }

    #[test]
    fn a_step_sees_nothing_of_the_package_of_this_runner() {
        assert!(std::env::vars().any(|(name, _)| is_of_package(&name)));
        let seen = Step::new("env").output().unwrap();
        assert!(!seen.lines().any(is_of_package), "{seen}");
    }

    #[test]
    fn a_step_that_fails_says_how_to_repeat_it() {
        let message = Step::new("false").run().unwrap_err();
        assert!(message.contains("    false\n"), "{message}");
        assert!(Step::new("true").succeeds());
        assert!(!Step::new("/no/such/program").succeeds());
    }
}
