//! What a step writes to `MESON_PROGRESS`: lines like `40 training`. The newest one counts.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

/// The file is looked at so often, which also bounds how often progress is told.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest message that is passed on, in bytes.
const MAX_MESSAGE_BYTES: usize = 512;
/// Read at most so much of the file at one look: the newest part.
const MAX_READ_BYTES: u64 = 64 << 10;

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// 0 to 100.
    pub percent: u8,
    /// What it is doing.
    pub message: String,
    /// A page to look at.
    pub url: Option<String>,
}

/// Reads one line: a number, perhaps with `%` or a fraction, then anything.
pub fn parse(line: &str) -> Option<Progress> {
    let line = line.trim();
    let (number, message) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let percent: f64 = number.strip_suffix('%').unwrap_or(number).parse().ok()?;
    if !percent.is_finite() {
        return None;
    }
    let mut message = message.trim().to_owned();
    crate::failure::truncate(&mut message, MAX_MESSAGE_BYTES);
    // Within 0 to 100 after the clamp, so nothing is cut off.
    Some(Progress {
        percent: percent.clamp(0.0, 100.0) as u8,
        message,
        url: None,
    })
}

/// Follows the file.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    position: u64,
}

impl Tail {
    /// From the beginning of the file, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, position: 0 }
    }

    /// The newest whole line that came since the last look.
    pub fn newest(&mut self) -> Option<Progress> {
        let mut file = meson_protocol::files::open_file(&self.path).ok()?;
        let len = file.metadata().ok()?.len();
        if len < self.position {
            // Written anew instead of appended to.
            self.position = 0;
        }
        let start = self.position.max(len.saturating_sub(MAX_READ_BYTES));
        file.seek(SeekFrom::Start(start)).ok()?;
        let mut bytes = Vec::new();
        file.take(MAX_READ_BYTES).read_to_end(&mut bytes).ok()?;
        let end = bytes.iter().rposition(|&byte| byte == b'\n')? + 1;
        self.position = start + end as u64;
        String::from_utf8_lossy(&bytes[..end])
            .lines()
            .rev()
            .find_map(parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_line_is_a_number_and_words() {
        assert_eq!(
            parse("40 training").unwrap(),
            Progress {
                percent: 40,
                message: "training".into(),
                url: None
            }
        );
        assert_eq!(parse("12.7% two words ").unwrap().percent, 12);
        assert_eq!(parse("250").unwrap().percent, 100);
        assert_eq!(parse("-3 x").unwrap().percent, 0);
        for bad in ["", "training", "NaN x", "inf"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_newest_whole_line_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("progress");
        let mut tail = Tail::new(path.clone());
        assert_eq!(tail.newest(), None);
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(b"10 a\n20 b\n30 unfin").unwrap();
        assert_eq!(tail.newest().unwrap().message, "b");
        assert_eq!(tail.newest(), None);
        file.write_all(b"ished\nnoise\n").unwrap();
        assert_eq!(tail.newest().unwrap().percent, 30);
    }
}
