//! An S3 server of our own: moto, from PyPI, in a virtual environment below the target directory.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const REQUIREMENT: &str = "moto[server]>=5.1,<6";
pub const BUCKET: &str = "mendb";

/// Serves until its standard input ends, which the end of the test process brings about, however
/// that comes.
///
/// Changes are made one at a time: moto looks whether an object is there and then puts it, and lets two that
/// must not both create one do so, which no store does that keeps conditions.
const PROGRAM: &str = r#"
import sys, threading, urllib.request
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.server import ThreadedMotoServer
answer = DomainDispatcherApplication.__call__
changing = threading.Lock()
def answer_in_turn(application, environ, start_response):
    if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
        return answer(application, environ, start_response)
    with changing:
        return answer(application, environ, start_response)
DomainDispatcherApplication.__call__ = answer_in_turn
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
request = urllib.request.Request(f"http://{host}:{port}/mendb", method="PUT")
urllib.request.urlopen(request).read()
print(port, flush=True)
sys.stdin.read()
"#;

/// A running server, which ends when dropped.
pub struct Server {
    process: Child,
    port: u16,
}

impl Server {
    pub fn start() -> Self {
        let mut process = Command::new(python())
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the virtual environment has a python");
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let port = line.trim().parse();
        Self {
            port: port.expect("the S3 server says its port: did it start?"),
            process,
        }
    }

    /// Where it is and how to get in, by the names of the S3 client's settings.
    pub fn settings(&self) -> [(&'static str, String); 5] {
        [
            ("aws_endpoint", format!("http://127.0.0.1:{}", self.port)),
            ("aws_allow_http", "true".to_owned()),
            ("aws_access_key_id", "test".to_owned()),
            ("aws_secret_access_key", "test".to_owned()),
            ("aws_region", "us-east-1".to_owned()),
        ]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The interpreter of the virtual environment, which the first test process that comes here creates
/// while others wait.
fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let venv = target.join("s3-server-venv");
    let python = venv.join("bin/python");
    let installed = venv.join("installed");
    let lock = File::create(target.join("s3-server-venv.lock")).unwrap();
    lock.lock().unwrap();
    if fs::read_to_string(&installed).is_ok_and(|text| text == REQUIREMENT) {
        return python;
    }
    let run = |program: &Path, arguments: &[&str]| {
        let done = Command::new(program).args(arguments).output();
        let done = done.unwrap_or_else(|error| {
            panic!("the tests on S3 need python3 with venv and pip: {program:?}: {error}")
        });
        assert!(
            done.status.success(),
            "the tests on S3 need python3 with venv and pip: {program:?} {arguments:?}\n{}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    run(
        Path::new("python3"),
        &["-m", "venv", "--clear", venv.to_str().unwrap()],
    );
    run(&python, &["-m", "pip", "install", "--quiet", REQUIREMENT]);
    fs::write(&installed, REQUIREMENT).unwrap();
    python
}
