//! A server of another target, and commands that it runs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

/// A server that runs.
pub struct Serving {
    child: Child,
    pub url: String,
    token: String,
}

impl Serving {
    /// Starts `mendb serve`, ready to be started, for who has the token.
    pub fn start(mut command: Command, token: &str) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let url = line.split(' ').find(|word| word.starts_with("http://"));
        let url = url.unwrap_or_else(|| panic!("no link: {line}")).to_owned();
        // What it logs must not fill the pipe.
        std::thread::spawn(move || {
            let mut rest = Vec::new();
            let _ = stderr.read_to_end(&mut rest);
        });
        Self {
            child,
            url,
            token: token.trim().to_owned(),
        }
    }

    /// Has it run a command, which ends with this code; what that printed.
    pub fn ends(&self, code: i32, command: &Command) -> String {
        let mut command = without_places(command);
        command
            .env("MENDB_SERVER", &self.url)
            .env("MENDB_TOKEN", &self.token);
        let ended: Output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{command:?}\n{stderr}");
        String::from_utf8(ended.stdout).unwrap()
    }

    pub fn ok(&self, command: &Command) -> String {
        self.ends(0, command)
    }

    pub fn json(&self, command: Command) -> serde_json::Value {
        let mut command = command;
        command.args(["--output", "json"]);
        serde_json::from_str(&self.ok(&command)).unwrap()
    }
}

/// A command without the flags that name target, repository and state: those of the server count.
fn without_places(command: &Command) -> Command {
    let places = ["--target", "--repository", "--data-path", "--state"];
    let mut client = Command::new(command.get_program());
    let mut arguments = command.get_args();
    while let Some(argument) = arguments.next() {
        if places.iter().any(|place| argument == *place) {
            arguments.next();
        } else {
            client.arg(argument);
        }
    }
    if let Some(directory) = command.get_current_dir() {
        client.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => client.env(name, value),
            None => client.env_remove(name),
        };
    }
    client
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
