//! `cargo xtask test`: everything CI checks, in the order that fails soonest. Stops at the first
//! failure with the line that repeats it.

use crate::run::{Outcome, Step};
use crate::tidy;

/// Runs everything.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn run() -> Outcome {
    tidy::run()?;
    Step::new("cargo fmt --all --check").run()?;
    Step::new("cargo clippy --workspace --all-targets -- -D warnings").run()?;
    provide_python()?;
    // One run tells of every test that fails.
    let tests = if Step::new("cargo nextest --version").succeeds() {
        "cargo nextest run --workspace --no-fail-fast"
    } else {
        "cargo test --workspace --all-targets --no-fail-fast"
    };
    Step::new(tests).run()?;
    Step::new("cargo test --workspace --doc").run()?;
    Step::new("cargo doc --no-deps --workspace")
        .with("RUSTDOCFLAGS", "-D warnings")
        .run()?;
    println!("\nxtask: all is well");
    Ok(())
}

/// Tests that need a server or a data set get it into a Python environment of their own. Debian keeps
/// what makes such an environment in a package of its own.
///
/// # Errors
/// It is missing and cannot be installed.
fn provide_python() -> Outcome {
    let usable = Step::new("python3 -m ensurepip --version");
    if usable.succeeds() {
        return Ok(());
    }
    let is_root = Step::new("id -u")
        .output()
        .is_some_and(|id| id.trim() == "0");
    let has_apt = Step::new("apt-get --version").succeeds();
    if is_root && has_apt {
        Step::new("apt-get update").run()?;
        return Step::new("apt-get install -y --no-install-recommends python3 python3-venv")
            .with("DEBIAN_FRONTEND", "noninteractive")
            .run();
    }
    Err(
        "some tests need python3 with its venv module: install it, on Debian with\n\n    \
         apt-get install python3-venv\n"
            .to_owned(),
    )
}
