//! A ZooKeeper of our own on loopback, which replicas of tables agree over.
//!
//! It is Debian's package on the Java of this host, in one process that ends with the one that started it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{POLLS_MAX, STARTS_MAX, guard_of, wait_a_moment};

const JARS: [&str; 2] = [
    "/usr/share/java/zookeeper.jar",
    "/usr/share/java/slf4j-nop.jar",
];

/// Then it is asked again.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);

/// A running ZooKeeper, which ends when dropped, and its directory with it.
pub struct ZooKeeper {
    root: PathBuf,
    port: u16,
    running: Option<(Child, Child)>,
}

impl ZooKeeper {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// It is not installed or does not start.
    pub fn start() -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        assert!(
            Path::new(JARS[0]).exists(),
            "tests on replicated tables need {}: `cargo xtask test` installs it as root, or\n\n    \
             apt-get install --no-install-recommends zookeeper\n",
            JARS[0]
        );
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("mendb-zookeeper-{}-{number}", process::id());
        let root = std::env::temp_dir().join(name);
        // Of an earlier process with our number, which was killed.
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("data")).unwrap();
        let mut zookeeper = Self {
            root,
            port: 0,
            running: None,
        };
        for _ in 0..STARTS_MAX {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            zookeeper.port = listener.local_addr().unwrap().port();
            drop(listener);
            if zookeeper.launch() {
                return zookeeper;
            }
        }
        let log = fs::read_to_string(zookeeper.root.join("log")).unwrap_or_default();
        panic!("ZooKeeper does not start:\n{log}");
    }

    /// The port that it answers on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it as `kill -9` does. What was acknowledged is on its disk.
    pub fn kill(&mut self) {
        let Some((mut process, mut guard)) = self.running.take() else {
            return;
        };
        let _ = process.kill();
        // Before it is waited for: until then no other process gets its number.
        drop(guard.stdin.take());
        let _ = guard.wait();
        let _ = process.wait();
    }

    /// Starts it again on the same port, with what it knew.
    ///
    /// # Panics
    /// It does not start.
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.launch(), "ZooKeeper does not start again");
    }

    /// Removes something that it knows, with all that is below.
    ///
    /// # Panics
    /// It is not there.
    pub fn remove(&self, path: &str) {
        let done = Command::new("java")
            .args(["-Xmx64m", "-cp"])
            .arg(JARS.join(":"))
            .arg("org.apache.zookeeper.ZooKeeperMain")
            .args(["-server", &format!("127.0.0.1:{}", self.port)])
            .args(["deleteall", path])
            .stdin(Stdio::null())
            .output()
            .expect("there is a java");
        let said = String::from_utf8_lossy(&done.stderr) + String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{path} is not removed: {said}");
    }

    fn launch(&mut self) -> bool {
        let root = self.root.display();
        let config = format!(
            "tickTime=500\ndataDir={root}/data\nclientPort={}\nclientPortAddress=127.0.0.1\n\
             admin.enableServer=false\n4lw.commands.whitelist=srvr\n",
            self.port
        );
        fs::write(self.root.join("zoo.cfg"), config).unwrap();
        let log = File::create(self.root.join("log")).unwrap();
        let process = Command::new("java")
            .args(["-Xmx256m", "-Dzookeeper.forceSync=no", "-cp"])
            .arg(JARS.join(":"))
            .arg("org.apache.zookeeper.server.ZooKeeperServerMain")
            .arg(self.root.join("zoo.cfg"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("there is a java");
        let guard = guard_of(&process);
        self.running = Some((process, guard));
        for _ in 0..POLLS_MAX {
            let (process, _) = self.running.as_mut().unwrap();
            if process.try_wait().unwrap().is_some() {
                break;
            }
            if self.answers() {
                return true;
            }
            wait_a_moment();
        }
        self.kill();
        false
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        // One that is starting may take the question and never answer it.
        stream.set_read_timeout(Some(ANSWERS_WITHIN)).unwrap();
        let mut answer = String::new();
        let asked = stream.write_all(b"srvr");
        let answered = asked.is_ok() && stream.read_to_string(&mut answer).is_ok();
        // Until it serves it says that it does not.
        answered && answer.contains("Mode: ")
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.root);
    }
}
