//! A boundary around libraries that read what others wrote.
//!
//! A decoder that panics at damaged bytes must not take the process with it, nor print a backtrace where a
//! line about the file belongs. Behind [`guard`] a panic is an error like any other. What was being read is
//! of no use afterwards: a library that panicked may have left it between two states.

use std::any::Any;
use std::cell::Cell;
use std::io::{self, Read};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// A library panicked at what it was given to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("damaged, or of a kind that the library cannot read ({why})")]
pub struct Panicked {
    /// What the panic said.
    why: String,
}

thread_local! {
    /// Whether this thread is behind the boundary.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}
static HOOK: Once = Once::new();

/// Runs what reads bytes of others. Its panic is not printed.
///
/// # Errors
/// It panicked.
pub fn guard<T>(read: impl FnOnce() -> T) -> Result<T, Panicked> {
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_GUARDED.get() {
                others(info);
            }
        }));
    });
    let was_guarded = IS_GUARDED.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(read));
    IS_GUARDED.set(was_guarded);
    outcome.map_err(|panic| Panicked {
        why: panic_text(panic.as_ref()),
    })
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// A decoder behind the boundary: a read that panics is an error of the kind `InvalidData`.
pub(crate) struct Guarded<R>(pub(crate) R);

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = guard(|| self.0.read(buffer));
        read.unwrap_or_else(|panicked| Err(io::Error::new(io::ErrorKind::InvalidData, panicked)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_behind_the_boundary_is_an_error_that_tells_what_it_said() {
        let empty: &[u8] = &[];
        assert_eq!(guard(|| empty.len()), Ok(0));
        let error = guard(|| empty[0]).unwrap_err().to_string();
        assert!(error.contains("index out of bounds"), "{error}");
        assert!(!IS_GUARDED.get());
    }

    #[test]
    fn a_decoder_that_panics_fails_to_read() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                panic!("at byte {}", 17)
            }
        }
        let error = Guarded(Broken).read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("at byte 17"), "{error}");
    }
}
