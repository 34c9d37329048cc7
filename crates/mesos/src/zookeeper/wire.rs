//! ZooKeeper's bytes: frames of big-endian numbers, and texts with their length in front.

use bytes::{Buf, BufMut, Bytes};

/// Kinds of requests.
pub(super) const CREATE: i32 = 1;
pub(super) const EXISTS: i32 = 3;
pub(super) const GET_DATA: i32 = 4;
pub(super) const GET_CHILDREN: i32 = 8;
pub(super) const PING: i32 = 11;
pub(super) const AUTH: i32 = 100;
pub(super) const CLOSE: i32 = -11;

/// Numbers of requests that are not counted.
pub(super) const WATCH_XID: i32 = -1;
pub(super) const PING_XID: i32 = -2;
pub(super) const AUTH_XID: i32 = -4;

/// Codes of errors.
pub(super) const NO_NODE: i32 = -101;
pub(super) const NO_AUTH: i32 = -102;
pub(super) const NODE_EXISTS: i32 = -110;
pub(super) const SESSION_EXPIRED: i32 = -112;
pub(super) const AUTH_FAILED: i32 = -115;

/// Flags of CREATE.
pub(super) const EPHEMERAL_SEQUENTIAL: i32 = 3;
pub(super) const PERSISTENT: i32 = 0;

/// All rights, of an access control list.
const ALL: i32 = 31;
const READ: i32 = 1;

/// Longer frames are no answers to what is asked here.
pub(super) const MAX_FRAME_BYTES: usize = 4 << 20;

/// A frame that is being written.
#[derive(Debug, Default)]
pub(super) struct Frame(Vec<u8>);

impl Frame {
    pub(super) fn request(xid: i32, kind: i32) -> Self {
        Self::default().int(xid).int(kind)
    }

    pub(super) fn int(mut self, value: i32) -> Self {
        self.0.put_i32(value);
        self
    }

    pub(super) fn long(mut self, value: i64) -> Self {
        self.0.put_i64(value);
        self
    }

    pub(super) fn flag(mut self, value: bool) -> Self {
        self.0.put_u8(value.into());
        self
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        // What we send is far below two gigabytes.
        self.0.put_i32(bytes.len() as i32);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Who may do what: everybody everything, or, of somebody who has said who he is, he
    /// everything and everybody else reading.
    pub(super) fn rights(self, authenticated: bool) -> Self {
        if authenticated {
            let own = self.int(2).int(ALL).text("auth").text("");
            own.int(READ).text("world").text("anyone")
        } else {
            self.int(1).int(ALL).text("world").text("anyone")
        }
    }

    /// With its length in front.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.0.len() + 4);
        whole.put_i32(self.0.len() as i32);
        whole.extend_from_slice(&self.0);
        whole
    }
}

/// A frame that is being read. `None`: it is too short, or not what it should be.
#[derive(Debug)]
pub(super) struct Reader(pub(super) Bytes);

impl Reader {
    pub(super) fn int(&mut self) -> Option<i32> {
        self.0.try_get_i32().ok()
    }

    pub(super) fn long(&mut self) -> Option<i64> {
        self.0.try_get_i64().ok()
    }

    pub(super) fn bytes(&mut self) -> Option<Bytes> {
        let length = self.int()?;
        if length < 0 {
            return Some(Bytes::new());
        }
        let length = usize::try_from(length).ok()?;
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    pub(super) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    pub(super) fn texts(&mut self) -> Option<Vec<String>> {
        let count = self.int()?;
        (0..count.max(0)).map(|_| self.text()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let frame = Frame::request(7, CREATE)
            .text("/a")
            .long(-5)
            .flag(true)
            .finish();
        let mut reader = Reader(frame.into());
        assert_eq!(reader.int(), Some(23));
        assert_eq!((reader.int(), reader.int()), (Some(7), Some(CREATE)));
        assert_eq!(reader.text().as_deref(), Some("/a"));
        assert_eq!(reader.long(), Some(-5));
        assert_eq!(reader.int(), None, "one byte is left");
    }

    #[test]
    fn lengths_that_lie_are_noticed() {
        let mut long = Vec::new();
        long.put_i32(1000);
        long.put_u8(1);
        assert_eq!(Reader(long.clone().into()).bytes(), None);
        let mut many = Vec::new();
        many.put_i32(i32::MAX);
        assert_eq!(Reader(many.into()).texts(), None);
    }
}
