//! One audit record: its type, its stamp and its text, from a netlink message or a line of audit.log.
//!
//! Input is what a privileged writer may have damaged: every function returns a reason instead of panicking, and
//! nothing is interpreted beyond the stamp. The text stays as it was read.

use std::fmt;
use std::sync::Arc;

use super::kinds;

/// What the kernel puts before every record: `audit(SECONDS.MILLISECONDS:SERIAL)`. The same for all records of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    /// Unix seconds.
    pub seconds: u64,
    /// 0 to 999.
    pub milliseconds: u16,
    pub serial: u32,
}

/// A record's type: its number, or the name that audit.log gave where no number is known for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RecordType {
    Number(u16),
    Name(Box<str>),
}

/// A record without its stamp: what follows `audit(…): `, its enriched part (behind 0x1d) included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRecord {
    pub kind: RecordType,
    pub text: Box<[u8]>,
}

/// A record on its way to its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    pub stamp: Stamp,
    /// The host that auditd names in its lines (`name_format`, an aggregated log).
    pub node: Option<Arc<str>>,
    pub record: RawRecord,
}

/// Why bytes are not an audit record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the line does not begin with `type=NAME msg=audit(`")]
    Prefix,
    #[error("the record's type is empty")]
    Type,
    #[error("the stamp is not audit(SECONDS.MILLISECONDS:SERIAL):")]
    Stamp,
}

/// Longest name of a node that is kept. Source: HOST_NAME_MAX is 64, a domain name at most 255.
const NODE_BYTES_MAX: usize = 255;

/// Separates what the kernel wrote from what auditd added when `log_format = ENRICHED`.
pub const ENRICHED_SEPARATOR: u8 = 0x1d;

impl Stamp {
    /// Unix nanoseconds.
    pub fn nanoseconds(self) -> u64 {
        self.seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(self.milliseconds) * 1_000_000)
    }

    /// Unix milliseconds.
    pub fn unix_milliseconds(self) -> u64 {
        self.seconds.saturating_mul(1000).saturating_add(u64::from(self.milliseconds))
    }

    /// Reads `audit(S.M:N):` at the start of `text` and returns what follows it, without the space.
    fn parse(text: &[u8]) -> Result<(Self, &[u8]), RecordError> {
        let inner = text.strip_prefix(b"audit(").ok_or(RecordError::Stamp)?;
        let end = memchr::memchr(b')', inner).ok_or(RecordError::Stamp)?;
        let (inner, rest) = inner.split_at(end);
        let inner = std::str::from_utf8(inner).map_err(|_| RecordError::Stamp)?;
        let (time, serial) = inner.split_once(':').ok_or(RecordError::Stamp)?;
        let (seconds, milliseconds) = time.split_once('.').ok_or(RecordError::Stamp)?;
        let stamp = Self {
            seconds: decimal(seconds)?,
            milliseconds: decimal(milliseconds).ok().filter(|ms: &u16| *ms < 1000).ok_or(RecordError::Stamp)?,
            serial: decimal(serial)?,
        };
        // Proof that `rest` begins with `)`: it was split there.
        let rest = rest.strip_prefix(b")").unwrap_or(rest);
        let rest = rest.strip_prefix(b":").unwrap_or(rest);
        Ok((stamp, rest.strip_prefix(b" ").unwrap_or(rest)))
    }
}

/// Whether auditd's name of a node is this host's: as it is, or without its domain where either has none.
pub fn is_same_host(node: &str, host: &str) -> bool {
    let is_bare = |name: &str| !name.contains('.');
    let first = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    node == host || (is_bare(node) || is_bare(host)) && first(node) == first(host)
}

/// Digits only: `u64::from_str` would also take a sign.
fn decimal<N: std::str::FromStr>(text: &str) -> Result<N, RecordError> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(RecordError::Stamp);
    }
    text.parse().map_err(|_| RecordError::Stamp)
}

impl Stamped {
    /// A record as netlink brings it: a number and `audit(…): text`, perhaps with trailing NULs.
    pub fn from_kernel(kind: u16, payload: &[u8]) -> Result<Self, RecordError> {
        let (stamp, text) = Stamp::parse(trim_end(payload))?;
        Ok(Self { stamp, node: None, record: RawRecord { kind: RecordType::Number(kind), text: text.into() } })
    }

    /// A line of audit.log: `[node=HOST ]type=NAME msg=audit(…): text`.
    pub fn from_line(line: &[u8]) -> Result<Self, RecordError> {
        let line = trim_end(line);
        let (mut rest, mut node) = (line, None);
        if let Some(named) = line.strip_prefix(b"node=") {
            let space = memchr::memchr(b' ', named).ok_or(RecordError::Prefix)?;
            let (name, after) = named.split_at(space);
            node = (!name.is_empty()).then(|| String::from_utf8_lossy(name.get(..NODE_BYTES_MAX).unwrap_or(name)).into());
            rest = after.trim_ascii_start();
        }
        let rest = rest.strip_prefix(b"type=").ok_or(RecordError::Prefix)?;
        let space = memchr::memchr(b' ', rest).ok_or(RecordError::Prefix)?;
        let (kind, rest) = rest.split_at(space);
        let kind = RecordType::parse(kind)?;
        let rest = rest.strip_prefix(b" msg=").ok_or(RecordError::Prefix)?;
        let (stamp, text) = Stamp::parse(rest)?;
        Ok(Self { stamp, node, record: RawRecord { kind, text: text.into() } })
    }
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|b| !matches!(b, 0 | b'\n' | b'\r')).map_or(0, |last| last + 1);
    bytes.get(..end).unwrap_or(bytes)
}

impl RecordType {
    fn parse(name: &[u8]) -> Result<Self, RecordError> {
        let name = std::str::from_utf8(name).map_err(|_| RecordError::Type)?;
        if name.is_empty() {
            return Err(RecordError::Type);
        }
        if let Some(number) = kinds::number(name) {
            return Ok(Self::Number(number));
        }
        let unknown = name.strip_prefix("UNKNOWN[").and_then(|rest| rest.strip_suffix(']'));
        Ok(match unknown.and_then(|number| number.parse().ok()) {
            Some(number) => Self::Number(number),
            None => Self::Name(name.into()),
        })
    }

    /// The number, or none for a name without one.
    pub fn number(&self) -> Option<u16> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Name(_) => None,
        }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, milliseconds, serial } = self;
        write!(f, "{seconds}.{milliseconds:03}:{serial}")
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => match kinds::name(*number) {
                Some(name) => f.write_str(name),
                None => write!(f, "UNKNOWN[{number}]"),
            },
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl RawRecord {
    pub fn is(&self, kind: u16) -> bool {
        self.kind == RecordType::Number(kind)
    }

    /// Whether the kernel may write further records under the same serial. User space's messages stand alone.
    pub fn joins(&self) -> bool {
        match &self.kind {
            RecordType::Number(number) => *number == kinds::LOGIN || (1300..2000).contains(number),
            RecordType::Name(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_and_a_message_of_one_record_are_equal() {
        let line = Stamped::from_line(b"type=CWD msg=audit(1492037291.036:59):  cwd=\"/home/a\"\n").unwrap();
        let message = Stamped::from_kernel(kinds::CWD, b"audit(1492037291.036:59):  cwd=\"/home/a\"\0\0").unwrap();
        assert_eq!(line, message);
        assert_eq!(line.stamp.to_string(), "1492037291.036:59");
    }

    #[test]
    fn a_node_name_and_an_unknown_type_are_read() {
        let line = Stamped::from_line(b"node=web1 type=UNKNOWN[1399] msg=audit(1.2:3): x=y").unwrap();
        assert_eq!((line.record.kind, line.node.as_deref()), (RecordType::Number(1399), Some("web1")));
        assert_eq!(line.stamp, Stamp { seconds: 1, milliseconds: 2, serial: 3 });
    }

    #[test]
    fn what_is_no_record_says_why() {
        assert_eq!(Stamped::from_line(b"hello"), Err(RecordError::Prefix));
        assert_eq!(Stamped::from_line(b"type= msg=audit(1.1:1): x"), Err(RecordError::Type));
        assert_eq!(Stamped::from_line(b"type=CWD msg=audit(): x"), Err(RecordError::Stamp));
        assert_eq!(Stamped::from_line(b"type=CWD msg=audit(1.1000:1): x"), Err(RecordError::Stamp));
        assert_eq!(Stamped::from_line(b"type=CWD msg=audit(1.+1:1): x"), Err(RecordError::Stamp));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in any::<u16>()) {
            drop(Stamped::from_line(&bytes));
            drop(Stamped::from_kernel(kind, &bytes));
        }

        #[test]
        fn nearly_right_lines_never_panic(line in "(node=[a-z]{0,3} )?type=[A-Z\\[\\]0-9]{0,9} ?msg=audit\\([0-9.:+-]{0,24}\\):? ?.{0,40}") {
            drop(Stamped::from_line(line.as_bytes()));
        }
    }
}
