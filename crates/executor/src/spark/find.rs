//! Which Spark: there may be several on an agent.
//!
//! Looked at in this order: `SPARK_HOME`; `MESON_SPARK_HOMES` (folders with colons between
//! them; a Python environment with pyspark in it counts too); the pyspark of the `python3` on
//! `PATH`; the `spark-submit` on `PATH`. The first one whose version fits is taken.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::TaskFailure;
use crate::process::nursery::{Nursery, pid_of};
use crate::process::which;

/// An installed Spark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spark {
    /// The folder with `bin/spark-submit`.
    pub home: PathBuf,
    /// `3.5.8`.
    pub version: String,
    /// The Python that has it as a package.
    pub python: Option<PathBuf>,
}

/// Finds a Spark whose version begins with `wanted`. Blocks: it may start a Python.
///
/// # Errors
/// There is none; the message lists what there is.
pub fn find(
    wanted: Option<&str>,
    env: &BTreeMap<String, String>,
    nursery: &Nursery,
) -> Result<Spark, TaskFailure> {
    let mut seen: Vec<Spark> = Vec::new();
    let mut looked = Vec::new();
    for (source, folder) in candidates(env, nursery) {
        let Some(spark) = folder.as_deref().and_then(inspect) else {
            looked.push(match folder {
                Some(folder) => format!("{source} ({}: no Spark there)", folder.display()),
                None => source,
            });
            continue;
        };
        if wanted.is_none_or(|wanted| fits(&spark.version, wanted)) {
            return Ok(spark);
        }
        if !seen.contains(&spark) {
            seen.push(spark);
        }
    }
    let found = match &seen[..] {
        [] => format!("none was found in {}", looked.join(", ")),
        seen => {
            let list: Vec<String> = seen
                .iter()
                .map(|s| format!("{} in {}", s.version, s.home.display()))
                .collect();
            format!("found {}", list.join(", "))
        }
    };
    let wanted = wanted.map(|w| format!(" {w}")).unwrap_or_default();
    Err(TaskFailure::hopeless(format!(
        "no Spark{wanted} on this agent: {found}. Install it there (pip install pyspark==<version>) and name its \
         folder in SPARK_HOME or MESON_SPARK_HOMES, or send the step elsewhere with where = …"
    )))
}

/// Where a Spark may be; none as folder: not there at all.
fn candidates<'a>(
    env: &'a BTreeMap<String, String>,
    nursery: &'a Nursery,
) -> impl Iterator<Item = (String, Option<PathBuf>)> + 'a {
    let variable = |name: &str| env.get(name).filter(|v| !v.is_empty());
    let home = variable("SPARK_HOME").map(PathBuf::from);
    let homes: Vec<PathBuf> = variable("MESON_SPARK_HOMES")
        .map(|list| {
            list.split(':')
                .filter(|f| !f.is_empty())
                .map(PathBuf::from)
                .collect()
        })
        .unwrap_or_default();
    let path = variable("PATH").map(String::as_str).unwrap_or_default();
    let listed = if homes.is_empty() {
        vec![("MESON_SPARK_HOMES".to_owned(), None)]
    } else {
        homes
            .into_iter()
            .map(|home| ("MESON_SPARK_HOMES".to_owned(), Some(home)))
            .collect()
    };
    std::iter::once(("SPARK_HOME".to_owned(), home))
        .chain(listed)
        // Lazily: starting a Python takes a while.
        .chain(std::iter::once_with(move || {
            let folder = ["python3", "python"]
                .iter()
                .find_map(|name| pyspark_of(&which(name, path)?, nursery));
            ("the pyspark of python3 on PATH".to_owned(), folder)
        }))
        .chain(std::iter::once_with(move || {
            let folder = which("spark-submit", path)
                .and_then(|file| std::fs::canonicalize(file).ok())
                .and_then(|file| Some(file.parent()?.parent()?.to_owned()));
            ("spark-submit on PATH".to_owned(), folder)
        }))
}

fn pyspark_of(python: &Path, nursery: &Nursery) -> Option<PathBuf> {
    let script = "import importlib.util as u; s = u.find_spec('pyspark'); print(s.submodule_search_locations[0] if s else '')";
    let mut command = Command::new(python);
    command
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let child = nursery.spawn_helper(&mut command).ok()?;
    let pid = pid_of(&child);
    let output = child.wait_with_output();
    nursery.forget_helper(pid);
    let folder = String::from_utf8(output.ok()?.stdout)
        .ok()?
        .trim()
        .to_owned();
    (!folder.is_empty()).then(|| folder.into())
}

/// The Spark in this folder, or in the Python environment that the folder is.
fn inspect(folder: &Path) -> Option<Spark> {
    if folder.join("bin/spark-submit").is_file()
        && let Some(version) = version(folder)
    {
        return Some(Spark {
            home: folder.to_owned(),
            version,
            python: python_of(folder),
        });
    }
    let lib = std::fs::read_dir(folder.join("lib")).ok()?;
    let homes = lib
        .flatten()
        .map(|entry| entry.path().join("site-packages/pyspark"));
    let home = homes
        .into_iter()
        .find(|home| home.join("bin/spark-submit").is_file())?;
    Some(Spark {
        version: version(&home)?,
        python: python_of(&home),
        home,
    })
}

/// From the RELEASE file of a distribution, or from the name of its core jar.
fn version(home: &Path) -> Option<String> {
    let release = std::fs::read_to_string(home.join("RELEASE")).ok();
    let released = release.as_deref().and_then(|text| {
        let word = text.strip_prefix("Spark ")?.split_whitespace().next()?;
        word.starts_with(|c: char| c.is_ascii_digit())
            .then(|| word.to_owned())
    });
    released.or_else(|| {
        std::fs::read_dir(home.join("jars"))
            .ok()?
            .flatten()
            .find_map(|jar| {
                let name = jar.file_name().into_string().ok()?;
                // spark-core_2.12-3.5.8.jar
                let rest = name.strip_prefix("spark-core_")?.strip_suffix(".jar")?;
                Some(rest.split_once('-')?.1.to_owned())
            })
    })
}

/// `…/bin/python3` of the environment that has this pyspark as a package.
fn python_of(home: &Path) -> Option<PathBuf> {
    let packages = home.parent()?;
    if packages.file_name()? != "site-packages" {
        return None;
    }
    let python = packages.parent()?.parent()?.parent()?.join("bin/python3");
    python.is_file().then_some(python)
}

/// Whether `wanted` is `version` or its beginning, number by number: `3.5` takes `3.5.8`, not `3.50`.
pub fn fits(version: &str, wanted: &str) -> bool {
    version
        .strip_prefix(wanted.trim())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn install(home: &Path, version: &str, with_release: bool) {
        for folder in ["bin", "jars"] {
            fs::create_dir_all(home.join(folder)).unwrap();
        }
        fs::write(home.join("bin/spark-submit"), "").unwrap();
        if with_release {
            fs::write(
                home.join("RELEASE"),
                format!("Spark {version} built for Hadoop 3.3.4\n"),
            )
            .unwrap();
        } else {
            fs::write(home.join(format!("jars/spark-core_2.12-{version}.jar")), "").unwrap();
        }
    }

    #[test]
    fn versions_are_compared_number_by_number() {
        assert!(
            fits("3.5.8", "3.5")
                && fits("3.5.8", "3")
                && fits("3.5.8", "3.5.8")
                && fits("4.0.0-preview1", "4.0.0")
        );
        assert!(!fits("3.50.1", "3.5") && !fits("3.4.1", "3.5"));
    }

    #[test]
    fn the_version_that_fits_is_taken_and_others_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("venv"));
        install(&old, "3.4.1", true);
        let package = new.join("lib/python3.11/site-packages/pyspark");
        install(&package, "3.5.8", false);
        let env: BTreeMap<String, String> = [
            ("SPARK_HOME".to_owned(), old.display().to_string()),
            ("MESON_SPARK_HOMES".to_owned(), new.display().to_string()),
        ]
        .into();
        let nursery = Nursery::default();
        let spark = find(Some("3.5"), &env, &nursery).unwrap();
        assert_eq!((spark.home, spark.version.as_str()), (package, "3.5.8"));
        assert_eq!(find(None, &env, &nursery).unwrap().home, old);
        let message = find(Some("2.4"), &env, &nursery).unwrap_err().0.message;
        assert!(
            message.contains("3.4.1 in") && message.contains("3.5.8 in"),
            "{message}"
        );
    }

    #[test]
    fn without_any_the_places_are_listed() {
        let message = find(None, &BTreeMap::new(), &Nursery::default())
            .unwrap_err()
            .0
            .message;
        assert!(
            message.contains("SPARK_HOME") && message.contains("spark-submit on PATH"),
            "{message}"
        );
    }
}
