//! A system call as strace prints it, with `-f -y -xx`.
//!
//! Under `-xx` every string and every path is hexadecimal, so that brackets, commas and quotes in a line are
//! always strace's own. A call that another thread interrupts takes two lines, `<unfinished ...>` and
//! `<... resumed>`: it began with the first and ended with the second.

use std::collections::HashMap;

use crate::error::{Error, Result};

/// A call that has ended, or one that never did because its process was killed in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The thread.
    pub(crate) thread: u32,
    pub(crate) name: String,
    /// The arguments, as they are printed.
    pub(crate) arguments: Vec<String>,
    /// What it returned; `None` if it failed or did not return.
    pub(crate) result: Option<i64>,
    /// The path of the descriptor that it returned.
    pub(crate) result_path: Option<Vec<u8>>,
    /// Whether nobody saw it end.
    pub(crate) is_unfinished: bool,
    /// The number of the line it began in, from one.
    pub(crate) began: usize,
    /// The number of the line it ended in.
    pub(crate) ended: usize,
}

impl Call {
    /// An argument; empty where there are fewer.
    pub(crate) fn argument(&self, at: usize) -> &str {
        self.arguments.get(at).map_or("", String::as_str)
    }

    /// An error about this call.
    pub(crate) fn unsupported(&self, detail: impl Into<String>) -> Error {
        Error::Unsupported {
            line: self.ended,
            detail: detail.into(),
            text: self.shown(),
        }
    }

    /// The call as people read it, without its data.
    pub(crate) fn shown(&self) -> String {
        let arguments = self.arguments.iter().map(|argument| shown(argument));
        let arguments: Vec<_> = arguments.collect();
        format!("{}({})", self.name, arguments.join(", "))
    }
}

fn shown(argument: &str) -> String {
    const MOST: usize = 120;
    if let Some(Descriptor {
        number,
        path: Some(path),
    }) = descriptor(argument)
    {
        return format!("{number}<{}>", String::from_utf8_lossy(&path));
    }
    match string(argument) {
        Some(bytes) => match String::from_utf8(bytes) {
            Ok(text) if text.len() <= MOST && !text.contains('\0') => format!("{text:?}"),
            Ok(text) => format!("{} bytes", text.len()),
            Err(error) => format!("{} bytes", error.as_bytes().len()),
        },
        None => argument.chars().take(MOST).collect(),
    }
}

/// A descriptor with the path that it stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) number: i32,
    /// Absolute for files; without the note that it is removed.
    pub(crate) path: Option<Vec<u8>>,
}

/// Reads `3<\x2f…>`, `AT_FDCWD<…>` (as -100) and plain numbers.
pub(crate) fn descriptor(argument: &str) -> Option<Descriptor> {
    let (number, rest) = argument.split_once('<').unwrap_or((argument, ""));
    let number = if number == "AT_FDCWD" {
        -100
    } else {
        number.parse().ok()?
    };
    let path = rest.split_once('>').and_then(|(path, _)| unescape(path));
    Some(Descriptor { number, path })
}

/// Reads a string that is printed whole.
pub(crate) fn string(argument: &str) -> Option<Vec<u8>> {
    unescape(argument.strip_prefix('"')?.strip_suffix('"')?)
}

/// Reads the buffers of a vectored write, one behind the other.
pub(crate) fn buffers(argument: &str) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    for part in argument.split("iov_base=").skip(1) {
        let end = part.find(", iov_len=")?;
        all.extend(string(&part[..end])?);
    }
    Some(all)
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let mut read = Vec::with_capacity(bytes.len() / 4);
    for four in bytes.chunks(4) {
        let [b'\\', b'x', high, low] = four else {
            return None;
        };
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        read.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
    }
    Some(read)
}

/// Puts lines together to calls.
#[derive(Debug, Default)]
pub(crate) struct CallReader {
    line: usize,
    /// What began and has not ended, by thread.
    open: HashMap<u32, (usize, String)>,
}

impl CallReader {
    /// Takes the next line. Gives a call if one ends in it.
    pub(crate) fn read(&mut self, line: &str) -> Result<Option<Call>> {
        self.line += 1;
        let line = line.trim_end();
        let bad = |detail: &str| Error::Line {
            line: self.line,
            detail: detail.to_owned(),
            text: line.chars().take(200).collect(),
        };
        let (thread, text) = line.split_once(' ').ok_or_else(|| bad("no thread"))?;
        let thread = thread.parse().map_err(|_| bad("no number of a thread"))?;
        let text = text.trim_start();
        // Signals and ends of threads.
        if text.starts_with("---") || text.starts_with("+++") {
            return Ok(None);
        }
        if let Some(resumed) = text.strip_prefix("<... ") {
            let (_, rest) =
                (resumed.split_once(" resumed>")).ok_or_else(|| bad("no resumed call"))?;
            let open = self.open.remove(&thread);
            let (began, first) = open.ok_or_else(|| bad("what it resumes did not begin"))?;
            let whole = first + rest;
            let call = parse(thread, &whole, (began, self.line)).ok_or_else(|| bad("no call"))?;
            return Ok(Some(call));
        }
        if let Some(first) = text.strip_suffix("<unfinished ...>") {
            let first = first.trim_end().to_owned();
            self.open.insert(thread, (self.line, first));
            return Ok(None);
        }
        let call = parse(thread, text, (self.line, self.line)).ok_or_else(|| bad("no call"))?;
        Ok(Some(call))
    }

    /// The calls in which their processes were killed.
    pub(crate) fn unfinished(self) -> Vec<Call> {
        let open = self.open.into_iter().filter_map(|(thread, (began, text))| {
            let text = format!("{} <unfinished ...>) = ?", text.trim_end_matches(','));
            parse(thread, &text, (began, usize::MAX))
        });
        open.collect()
    }
}

/// Reads `name(arguments) = result`.
fn parse(thread: u32, text: &str, (began, ended): (usize, usize)) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let at = rest.rfind(") = ").or_else(|| {
        // Short calls are filled up with spaces.
        let equals = rest.rfind(" = ")?;
        rest[..equals].trim_end().strip_suffix(')').map(str::len)
    })?;
    let (arguments, result) = (&rest[..at], rest[at..].split_once("= ")?.1);
    let is_unfinished = arguments.ends_with("<unfinished ...>");
    let arguments = arguments.trim_end_matches("<unfinished ...>").trim_end();
    let returned = descriptor(result.split(' ').next()?);
    let number = match &returned {
        Some(returned) => Some(i64::from(returned.number)),
        // Addresses and large numbers.
        None => result
            .split(' ')
            .next()?
            .parse()
            .ok()
            .or(result.starts_with("0x").then_some(1)),
    };
    Some(Call {
        thread,
        name: name.to_owned(),
        arguments: split(arguments),
        result: number.filter(|number| *number >= 0),
        result_path: returned.and_then(|returned| returned.path),
        is_unfinished,
        began,
        ended,
    })
}

/// Cuts arguments at the commas that are not in brackets.
fn split(arguments: &str) -> Vec<String> {
    let mut depth = 0u32;
    let mut parts = Vec::new();
    let mut from = 0;
    for (at, byte) in arguments.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(arguments[from..at].trim().to_owned());
                from = at + 1;
            }
            _ => {}
        }
    }
    let last = arguments[from..].trim();
    if !last.is_empty() {
        parts.push(last.to_owned());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(line: &str) -> Call {
        CallReader::default().read(line).unwrap().unwrap()
    }

    #[test]
    fn a_call_is_read_with_its_paths_and_data() {
        let call = only(r#"7 pwrite64(3<\x2f\x61>(deleted), "\x68\x2c\x29", 3, 4096) = 3"#);
        assert_eq!((call.thread, call.name.as_str()), (7, "pwrite64"));
        assert_eq!(call.result, Some(3));
        let file = descriptor(call.argument(0)).unwrap();
        assert_eq!((file.number, file.path.as_deref()), (3, Some(&b"/a"[..])));
        assert_eq!(string(call.argument(1)).unwrap(), b"h,)");
        assert_eq!(call.argument(3), "4096");
        assert_eq!(call.shown(), r#"pwrite64(3</a>, "h,)", 3, 4096)"#);
    }

    #[test]
    fn what_a_call_returns_is_told_from_its_failure() {
        let open = only(r#"7 openat(AT_FDCWD<\x2f>, "\x61", O_RDONLY) = 3<\x2f\x61>"#);
        assert_eq!(
            (open.result, open.result_path.as_deref()),
            (Some(3), Some(&b"/a"[..]))
        );
        assert_eq!(descriptor(open.argument(0)).unwrap().number, -100);
        let failed = only(r#"7 unlink("\x61") = -1 ENOENT (No such file or directory)"#);
        assert_eq!(failed.result, None);
        assert_eq!(only("7 close(3)       = 0").result, Some(0));
        assert_eq!(only("7 mmap(NULL, 9) = 0x7f00").result, Some(1));
        assert_eq!(
            only("7 lseek(3, 0, SEEK_END) = 9876543210").result,
            Some(9_876_543_210)
        );
    }

    #[test]
    fn buffers_of_a_vectored_write_follow_each_other() {
        let line = r#"7 writev(3, [{iov_base="\x61", iov_len=1}, {iov_base="", iov_len=0}, {iov_base="\x62", iov_len=1}], 3) = 2"#;
        let call = only(line);
        assert_eq!(call.arguments.len(), 3);
        assert_eq!(buffers(call.argument(1)).unwrap(), b"ab");
    }

    #[test]
    fn a_call_that_was_interrupted_is_one_call_with_a_beginning_and_an_end() {
        let mut reader = CallReader::default();
        assert_eq!(
            reader
                .read("1 fsync(3<\\x2f\\x61> <unfinished ...>")
                .unwrap(),
            None
        );
        assert!(reader.read("2 close(4) = 0").unwrap().is_some());
        let call = reader
            .read("1 <... fsync resumed>)      = 0")
            .unwrap()
            .unwrap();
        assert_eq!((call.began, call.ended, call.result), (1, 3, Some(0)));
        assert_eq!(call.arguments.len(), 1);
    }

    #[test]
    fn a_call_in_which_its_process_was_killed_is_unfinished() {
        let mut reader = CallReader::default();
        reader.read("1 fsync(3 <unfinished ...>").unwrap();
        reader.read("1 +++ killed by SIGKILL +++").unwrap();
        let calls = reader.unfinished();
        assert!(calls[0].is_unfinished && calls[0].result.is_none());
        assert_eq!(calls[0].arguments, ["3"]);
        assert!(only("1 fsync(3 <unfinished ...>) = ?").is_unfinished);
    }

    #[test]
    fn a_line_that_is_no_call_is_refused_with_its_number() {
        let error = CallReader::default().read("1 what is this").unwrap_err();
        assert!(error.to_string().starts_with("line 1 of strace"), "{error}");
        // Text that strace has cut is no string.
        assert_eq!(string("\"\\x61\"..."), None);
    }
}
