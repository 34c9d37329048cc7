//! A look at the source before the parser sees it: the parser recurses, so what it may
//! recurse over is bounded first.

use super::error::ExpressionError;
use super::limits;

/// Reads a CEL source byte by byte, knowing strings from code.
pub(super) struct Scanner<'a> {
    rest: &'a [u8],
    position: usize,
    quote: Option<u8>,
    raw: bool,
    previous: u8,
}

/// A byte outside of strings, and where it is.
pub(super) struct Code {
    pub(super) byte: u8,
    pub(super) position: usize,
    pub(super) previous: u8,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self {
            rest: source.as_bytes(),
            position: 0,
            quote: None,
            raw: false,
            previous: 0,
        }
    }
}

impl Iterator for Scanner<'_> {
    type Item = Code;

    fn next(&mut self) -> Option<Code> {
        while let Some((&byte, rest)) = self.rest.split_first() {
            let position = self.position;
            self.rest = rest;
            self.position += 1;
            match self.quote {
                Some(_) if byte == b'\\' && !self.raw => {
                    if let Some((_, rest)) = self.rest.split_first() {
                        self.rest = rest;
                        self.position += 1;
                    }
                }
                Some(quote) if byte == quote => {
                    self.quote = None;
                    self.previous = byte;
                }
                Some(_) => {}
                None if byte == b'"' || byte == b'\'' => {
                    self.raw = matches!(self.previous, b'r' | b'R');
                    self.quote = Some(byte);
                }
                None => {
                    let previous = std::mem::replace(&mut self.previous, byte);
                    return Some(Code {
                        byte,
                        position,
                        previous,
                    });
                }
            }
        }
        None
    }
}

/// How deep one level of brackets is: up to the last separator, and since.
#[derive(Default)]
struct Level {
    deepest: usize,
    here: usize,
}

impl Level {
    /// What stands on both sides of a separator does not nest.
    fn separate(&mut self) {
        self.deepest = self.deepest.max(self.here);
        self.here = 0;
    }

    fn depth(&self) -> usize {
        self.deepest.max(self.here)
    }
}

/// Refuses what would make the parser recurse too deep.
pub(super) fn check(source: &str) -> Result<(), ExpressionError> {
    if source.len() > limits::SOURCE_BYTES {
        return Err(ExpressionError::TooLong {
            bytes: source.len(),
        });
    }
    let mut levels = vec![Level::default()];
    for code in Scanner::new(source) {
        if matches!(code.byte, b'(' | b'[' | b'{') {
            levels.push(Level::default());
        }
        // Brackets that were never opened are for the parser to complain about.
        if matches!(code.byte, b')' | b']' | b'}')
            && levels.len() > 1
            && let (Some(inner), Some(outer)) = (levels.pop(), levels.last_mut())
        {
            outer.here += inner.depth() + limits::BRACKET_DEPTH + 1;
        }
        let open = (levels.len() - 1) * (limits::BRACKET_DEPTH + 1);
        if let Some(level) = levels.last_mut() {
            match code.byte {
                b',' | b'&' | b'|' => level.separate(),
                // The second byte of `==`, `!=`, `<=` and `>=` belongs to the first.
                b'=' if matches!(code.previous, b'=' | b'!' | b'<' | b'>') => {}
                b'.' if code.previous.is_ascii_digit() => {}
                b'+' | b'-' | b'*' | b'/' | b'%' | b'!' | b'?' | b'.' => level.here += 1,
                // One is all that makes sense, and the parser's are the most expensive.
                b'<' | b'>' | b'=' => level.here += 3,
                b'n' if code.previous == b'i' => level.here += 1,
                _ => {}
            }
            if level.depth() > limits::DEPTH || open > limits::DEPTH {
                return Err(ExpressionError::TooDeep);
            }
        }
    }
    // What is left open still nests.
    let depth: usize =
        levels.iter().map(Level::depth).sum::<usize>() + (levels.len() - 1) * limits::BRACKET_DEPTH;
    if depth > limits::DEPTH {
        Err(ExpressionError::TooDeep)
    } else {
        Ok(())
    }
}

/// Where the `}}` that ends an expression begins; `source` starts right after its `${{`.
pub(super) fn end_of_expression(source: &str) -> Option<usize> {
    let bytes = source.as_bytes();
    let mut depth = 0usize;
    for code in Scanner::new(source) {
        match code.byte {
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b'}' if bytes.get(code.position + 1) == Some(&b'}') => return Some(code.position),
            _ => {}
        }
    }
    None
}
