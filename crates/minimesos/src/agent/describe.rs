//! What an agent says it has: `--resources` and `--attributes` texts in Mesos's
//! syntax, and what the machine itself tells.

use std::path::Path;

use meson_mesos::types::{
    Attribute, Range, Ranges, Reservation, ReservationType, Resource, ValueType,
};

/// Left for the operating system, in MB (`DEFAULT_SYSTEM_MEM` of Mesos).
const SYSTEM_MEM_MB: u64 = 1024;
/// Left for everything else on the disk, in MB (`DEFAULT_SYSTEM_DISK` of Mesos).
const SYSTEM_DISK_MB: u64 = 5 * 1024;

/// Why a description cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot parse {what} '{text}': {reason}; write it as 'name:value;name:value' with numbers, texts or ranges like [1-3,5-7]"
)]
pub struct ParseError {
    /// `resource` or `attribute`.
    pub what: &'static str,
    /// The part that is wrong.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

/// One value in Mesos's syntax (`src/common/values.cpp` in the Mesos repository,
/// corrected by what a real agent was seen to do).
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Scalar(f64),
    Ranges(Ranges),
    Set(Vec<String>),
    Text(String),
}

fn value(text: &str) -> Result<Value, String> {
    // Blanks are removed wherever they are: "x y" is "xy".
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if text.is_empty() {
        return Err("the value is empty".to_owned());
    }
    if let Some(inside) = text.strip_prefix('[') {
        let inside = inside
            .strip_suffix(']')
            .ok_or("the closing ']' is missing")?;
        return inside
            .split(',')
            .map(range)
            .collect::<Result<_, _>>()
            .map(|range| Value::Ranges(Ranges { range }));
    }
    if let Some(inside) = text.strip_prefix('{') {
        let inside = inside
            .strip_suffix('}')
            .ok_or("the closing '}' is missing")?;
        return Ok(Value::Set(inside.split(',').map(str::to_owned).collect()));
    }
    // Only plain numbers: "-1", "0x10" and "inf" are texts to Mesos.
    let plain = text.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    match text.parse::<f64>() {
        // Mesos keeps three decimals.
        Ok(number) if plain && number.is_finite() => {
            Ok(Value::Scalar((number * 1000.0).round() / 1000.0))
        }
        _ => Ok(Value::Text(text)),
    }
}

fn range(text: &str) -> Result<Range, String> {
    let wrong = || format!("'{text}' is not a range");
    let (begin, end) = text.split_once('-').ok_or_else(wrong)?;
    let begin = begin.parse().map_err(|_| wrong())?;
    let end = end.parse().map_err(|_| wrong())?;
    if begin > end {
        return Err(format!("the range '{text}' ends before it begins"));
    }
    Ok(Range { begin, end })
}

/// The parts of `a:1;b:2`, each as its name and value.
fn parts<'a>(
    what: &'static str,
    text: &'a str,
) -> impl Iterator<Item = Result<(&'a str, Value), ParseError>> {
    text.split([';', '\n'])
        .filter(|part| !part.trim().is_empty())
        .map(move |part| {
            let error = |reason: String| ParseError {
                what,
                text: part.trim().to_owned(),
                reason,
            };
            let (name, text) = part
                .split_once(':')
                .ok_or_else(|| error("there is no ':'".to_owned()))?;
            let name = name.trim();
            if name.is_empty() {
                return Err(error("there is no name before the ':'".to_owned()));
            }
            Ok((name, value(text).map_err(error)?))
        })
}

/// Attributes from a text such as `region:us-east;spark:3.5;ports:[1-3]`.
///
/// # Errors
/// For a part without a colon, an empty value or a set, on which a real agent
/// aborts.
pub fn parse_attributes(text: &str) -> Result<Vec<Attribute>, ParseError> {
    parts("attribute", text)
        .map(|part| {
            let (name, value) = part?;
            Ok(match value {
                Value::Scalar(number) => Attribute::scalar(name, number),
                Value::Text(text) => Attribute::text(name, text),
                Value::Ranges(ranges) => Attribute {
                    name: name.to_owned(),
                    kind: ValueType::Ranges,
                    ranges: Some(ranges),
                    ..Attribute::default()
                },
                Value::Set(items) => {
                    return Err(ParseError {
                        what: "attribute",
                        text: format!("{name}:{{{}}}", items.join(",")),
                        reason: "an attribute cannot be a set".to_owned(),
                    });
                }
            })
        })
        .collect()
}

/// Resources from a text such as `cpus:4;mem:2048;cpus(ads):2;ports:[31000-31099]`;
/// `mem` and `disk` are in MB.
///
/// # Errors
/// For a part that is not `name:value` or `name(role):value`, or whose value is a
/// text.
pub fn parse_resources(text: &str) -> Result<Vec<Resource>, ParseError> {
    parts("resource", text)
        .map(|part| {
            let (name, value) = part?;
            let error = |reason: &str| ParseError {
                what: "resource",
                text: name.to_owned(),
                reason: reason.to_owned(),
            };
            let (name, role) = match name.split_once('(') {
                None => (name, None),
                Some((name, role)) => {
                    let role = role
                        .strip_suffix(')')
                        .filter(|role| !role.is_empty())
                        .ok_or_else(|| error("a role stands in '(' and ')'"))?;
                    (name, Some(role).filter(|role| *role != "*"))
                }
            };
            let mut resource = match value {
                Value::Scalar(number) => Resource::scalar(name, number),
                Value::Ranges(ranges) => Resource::ranges(
                    name,
                    ranges.range.iter().map(|range| (range.begin, range.end)),
                ),
                Value::Set(items) => Resource::set(name, items),
                Value::Text(text) => {
                    return Err(error(&format!("'{text}' is neither number, range nor set")));
                }
            };
            resource.reservations = role
                .map(|role| Reservation {
                    kind: Some(ReservationType::Static),
                    role: Some(role.to_owned()),
                    ..Reservation::default()
                })
                .into_iter()
                .collect();
            Ok(resource)
        })
        .collect()
}

/// Adds to `given` what it does not name: the machine's processors, memory and
/// disk, less what the system itself needs, and the usual ports.
pub(crate) fn complete(mut given: Vec<Resource>, work_dir: &Path) -> Vec<Resource> {
    let missing = |name: &str| !given.iter().any(|resource| resource.name == name);
    let mut detected = Vec::new();
    if missing("cpus") {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        detected.push(Resource::scalar("cpus", cpus as f64));
    }
    if missing("mem") {
        let mem = usable(memory_mb().unwrap_or(SYSTEM_MEM_MB), SYSTEM_MEM_MB);
        detected.push(Resource::scalar("mem", mem as f64));
    }
    if missing("disk") {
        let disk = usable(disk_mb(work_dir).unwrap_or(SYSTEM_DISK_MB), SYSTEM_DISK_MB);
        detected.push(Resource::scalar("disk", disk as f64));
    }
    if missing("ports") {
        detected.push(Resource::ranges("ports", [(31_000, 32_000)]));
    }
    given.extend(detected);
    given
}

/// What is left of `total` for tasks: all but the system's part, or half if that
/// is not even double.
fn usable(total: u64, system: u64) -> u64 {
    if total >= 2 * system {
        total - system
    } else {
        total / 2
    }
}

fn memory_mb() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes / 1024)
}

fn disk_mb(path: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    Some(stat.blocks() * stat.fragment_size() / (1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(text: &str) -> Attribute {
        parse_attributes(text).unwrap().remove(0)
    }

    #[test]
    fn attributes_become_what_a_real_agent_made_of_them() {
        let texts = [
            ("b:3.5.1", "3.5.1"),
            ("d:true", "true"),
            ("h:-1", "-1"),
            ("i:0x10", "0x10"),
            ("j:v3.5", "v3.5"),
            ("k: spaced ", "spaced"),
            ("l:3,5", "3,5"),
            ("m:inf", "inf"),
            ("n:nan", "nan"),
            ("url:http://x:80/y", "http://x:80/y"),
            ("two words:x y", "xy"),
        ];
        for (given, text) in texts {
            assert_eq!(attribute(given).text.unwrap().value, text, "{given}");
        }
        for (given, number) in [
            ("a:3.10", 3.1),
            ("c:1e3", 1000.0),
            ("e:007", 7.0),
            ("spark:3.5", 3.5),
        ] {
            assert_eq!(attribute(given).scalar.unwrap().value, number, "{given}");
        }
        let ranges = attribute("g:[1-3,5-7]").ranges.unwrap().range;
        assert_eq!(
            ranges,
            [Range { begin: 1, end: 3 }, Range { begin: 5, end: 7 }]
        );
        assert_eq!(attribute("two words:x y").name, "two words");
    }

    #[test]
    fn empty_parts_are_skipped_and_double_names_kept() {
        let names = |text: &str| -> Vec<String> {
            parse_attributes(text)
                .unwrap()
                .into_iter()
                .map(|attribute| attribute.name)
                .collect()
        };
        assert_eq!(names("q:a;;r:b;"), ["q", "r"]);
        assert_eq!(names("dup:1;dup:2"), ["dup", "dup"]);
        assert_eq!(names(""), [""; 0]);
    }

    #[test]
    fn what_aborts_a_real_agent_is_an_error() {
        for bad in ["tags:{a,b}", "empty:", "nocolon", ":x", "r:[3-1]", "r:[1-"] {
            let error = parse_attributes(bad).unwrap_err().to_string();
            assert!(error.contains("cannot parse attribute"), "{error}");
        }
    }

    #[test]
    fn resources_may_be_reserved_for_a_role() {
        let resources = parse_resources("cpus:4;mem:2048;cpus(ads):2;ports:[31000-31099]").unwrap();
        assert_eq!(resources.len(), 4);
        assert_eq!(resources[0], Resource::scalar("cpus", 4.0));
        assert_eq!(resources[2].name, "cpus");
        assert_eq!(resources[2].reservations[0].role.as_deref(), Some("ads"));
        assert_eq!(resources[3], Resource::ranges("ports", [(31_000, 31_099)]));
        for bad in ["cpus:many", "cpus(:1", "cpus():1", "cpus"] {
            assert!(parse_resources(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_given_is_found_out() {
        let given = parse_resources("cpus:2").unwrap();
        let complete = complete(given, Path::new("/"));
        let amount = |name: &str| {
            complete
                .iter()
                .find(|resource| resource.name == name)
                .and_then(|resource| resource.scalar)
                .unwrap()
                .value
        };
        assert_eq!(amount("cpus"), 2.0);
        assert!(amount("mem") > 0.0 && amount("disk") > 0.0);
        assert_eq!(usable(1500, 1024), 750);
        assert_eq!(usable(4096, 1024), 3072);
    }
}
