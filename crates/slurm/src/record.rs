//! `Key=value Key=value …`, the form in which `scontrol --oneliner` prints everything.

/// One line, taken apart.
#[derive(Debug)]
pub(crate) struct Record<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Record<'a> {
    /// Takes a line apart. A value may hold blanks (`OS=Linux 6.1 #1 SMP`): it goes on until a word
    /// that begins like a key.
    pub(crate) fn parse(line: &'a str) -> Self {
        let starts: Vec<usize> = words(line)
            .filter(|(_, word)| is_key(word))
            .map(|(start, _)| start)
            .collect();
        let ends = starts.iter().skip(1).copied().chain([line.len()]);
        let fields = starts.iter().zip(ends).filter_map(|(&start, end)| {
            let (key, value) = line.get(start..end)?.split_once('=')?;
            Some((key, value.trim()))
        });
        Self(fields.collect())
    }

    /// The value of the first field of this name; none if it is empty or `(null)`.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.0.iter().find(|(key, _)| *key == name)?;
        (!value.is_empty() && *value != "(null)" && *value != "N/A").then_some(value)
    }

    /// A whole number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}

fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.split(' ').scan(0, |at, word| {
        let start = *at;
        *at += word.len() + 1;
        Some((start, word))
    })
}

/// `CfgTRES=cpu=4` begins with a key, `cpu=4` and `SMP` do not: all of scontrol's keys begin with a
/// capital letter.
fn is_key(word: &str) -> bool {
    let Some((key, _)) = word.split_once('=') else {
        return false;
    };
    key.starts_with(|first: char| first.is_ascii_uppercase())
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'/' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_blanks_and_equal_signs() {
        let record = Record::parse(
            "NodeName=n1 OS=Linux 6.1 #1 SMP @0  RealMemory=4000 Gres=(null) AllocTRES= CfgTRES=cpu=4,mem=4000M Reason=disk is bad [root@2026-11-25T08:29:08]",
        );
        assert_eq!(record.get("OS"), Some("Linux 6.1 #1 SMP @0"));
        assert_eq!(record.number("RealMemory"), Some(4000));
        assert_eq!((record.get("Gres"), record.get("AllocTRES")), (None, None));
        assert_eq!(record.get("CfgTRES"), Some("cpu=4,mem=4000M"));
        assert!(record.get("Reason").unwrap().starts_with("disk is bad"));
    }
}
