//! Makes and shows certificates of coordinators. Works on files alone; no cluster is asked.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meson_certs::{
    AUTHORITY_KEY, Authority, CertError, NODE_CERTIFICATE, Paper, PeerId, inspect, node_folder,
};
use serde::Serialize;

use crate::args::{CertsCommand, Nodes};
use crate::failure::Failure;
use crate::show;

const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn run(command: CertsCommand, json: bool) -> Result<(), Failure> {
    let now = now();
    match command {
        CertsCommand::Init {
            dir,
            cluster,
            nodes,
            days,
        } => show::print(json, &init(&dir, &cluster, &nodes, days, now)?, Made::text),
        CertsCommand::Issue { dir, node, days } => {
            show::print(json, &issue(&dir, node, days, now)?, Made::text)
        }
        CertsCommand::Show { dir } => {
            let papers = inspect(&dir, now)?;
            let rows: Vec<_> = papers.iter().map(|paper| Row::new(paper, now)).collect();
            show::print(json, &rows, |rows| table(rows))
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the binary is where time comes from"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// What a command has made.
#[derive(Debug, Serialize)]
struct Made {
    cluster: String,
    dir: PathBuf,
    /// Whether the authority is new.
    authority_created: bool,
    made: Vec<MadeNode>,
    /// Nodes that had a certificate, which was left alone.
    kept: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct MadeNode {
    id: u64,
    folder: PathBuf,
    expires_in_days: u64,
}

fn init(
    dir: &Path,
    cluster: &str,
    nodes: &Nodes,
    days: u32,
    now: SystemTime,
) -> Result<Made, Failure> {
    let exists = Authority::exists(dir);
    let authority = if exists {
        Authority::load(dir)?
    } else {
        Authority::create(dir, cluster, now)?
    };
    if authority.cluster() != cluster {
        return Err(Failure::input(format!(
            "{} holds the authority of cluster {:?}, not of {cluster:?}; choose another folder, \
             or write --cluster {}",
            dir.display(),
            authority.cluster(),
            authority.cluster()
        )));
    }
    let mut done = Made {
        cluster: cluster.to_owned(),
        dir: dir.to_owned(),
        authority_created: !exists,
        made: Vec::new(),
        kept: Vec::new(),
    };
    for &id in &nodes.0 {
        let folder = node_folder(dir, PeerId::new(id));
        if folder.join(NODE_CERTIFICATE).exists() {
            done.kept.push(id);
        } else {
            done.made.push(make(&authority, dir, id, days, now)?);
        }
    }
    Ok(done)
}

fn issue(dir: &Path, id: u64, days: u32, now: SystemTime) -> Result<Made, Failure> {
    let authority = Authority::load(dir)?;
    Ok(Made {
        cluster: authority.cluster().to_owned(),
        dir: dir.to_owned(),
        authority_created: false,
        made: vec![make(&authority, dir, id, days, now)?],
        kept: Vec::new(),
    })
}

fn make(
    authority: &Authority,
    dir: &Path,
    id: u64,
    days: u32,
    now: SystemTime,
) -> Result<MadeNode, CertError> {
    let files = authority.issue(PeerId::new(id), DAY * days, now)?;
    Ok(MadeNode {
        id,
        folder: files.write(dir)?,
        expires_in_days: whole_days(files.not_after, now),
    })
}

impl Made {
    fn text(&self) -> String {
        let mut text = String::new();
        let dir = self.dir.display();
        let key = self.dir.join(AUTHORITY_KEY);
        // Writing to a string cannot fail.
        let _ = match self.authority_created {
            true => writeln!(
                text,
                "made the authority of cluster {} in {dir}",
                self.cluster
            ),
            false => writeln!(
                text,
                "used the authority of cluster {} in {dir}",
                self.cluster
            ),
        };
        for id in &self.kept {
            let _ = writeln!(
                text,
                "kept the certificate that node {id} has; replace it with \
                 `mesonctl certs issue {dir} --node {id}`"
            );
        }
        for node in &self.made {
            let _ = writeln!(
                text,
                "made a certificate for node {}, for {} days",
                node.id, node.expires_in_days
            );
        }
        if self.made.is_empty() {
            return text;
        }
        let _ = writeln!(text, "\nnext:");
        for node in &self.made {
            let _ = writeln!(
                text,
                "  copy the folder {} to node {}",
                node.folder.display(),
                node.id
            );
        }
        let _ = writeln!(
            text,
            "  keep {} offline: whoever has it can join the cluster",
            key.display()
        );
        text
    }
}

/// A certificate, as it is shown.
#[derive(Debug, Serialize)]
struct Row {
    /// None: the authority.
    id: Option<u64>,
    cluster: String,
    path: PathBuf,
    /// Seconds since 1970.
    not_after: u64,
    /// Zero: today, or it has expired, which `problem` then says.
    expires_in_days: u64,
    problem: Option<String>,
}

impl Row {
    fn new(paper: &Paper, now: SystemTime) -> Self {
        Self {
            id: paper.id.map(PeerId::get),
            cluster: paper.cluster.clone(),
            path: paper.path.clone(),
            not_after: paper
                .not_after
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs(),
            expires_in_days: whole_days(paper.not_after, now),
            problem: paper.problem.clone(),
        }
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let who = match row.id {
            Some(id) => format!("node {id}"),
            None => "authority".to_owned(),
        };
        let _ = write!(text, "{who} of cluster {}: ", row.cluster);
        let _ = match &row.problem {
            Some(problem) => writeln!(text, "{problem}"),
            None => writeln!(text, "expires in {} days", row.expires_in_days),
        };
    }
    text
}

fn whole_days(end: SystemTime, now: SystemTime) -> u64 {
    end.duration_since(now).unwrap_or_default().as_secs() / DAY.as_secs()
}

/// Everything that is wrong with certificates is the input's fault.
impl From<CertError> for Failure {
    fn from(error: CertError) -> Self {
        Self::input(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn today() -> SystemTime {
        UNIX_EPOCH + DAY * 20_000
    }

    fn told(result: Result<Made, Failure>) -> String {
        match result {
            Err(Failure::Input(text)) => text,
            other => panic!("wrong input was expected, not {other:?}"),
        }
    }

    #[test]
    fn what_was_made_is_told_with_what_to_do_next() {
        let dir = tempfile::tempdir().unwrap();
        let nodes = Nodes(vec![1, 2]);
        let text = init(dir.path(), "prod", &nodes, 365, today())
            .unwrap()
            .text();
        let folder = dir.path().join("node-2");
        let key = dir.path().join("ca.key");
        for expected in [
            "made the authority of cluster prod".to_owned(),
            "made a certificate for node 1, for 365 days".to_owned(),
            format!("copy the folder {} to node 2", folder.display()),
            format!("keep {} offline", key.display()),
        ] {
            assert!(text.contains(&expected), "{expected:?} is not in:\n{text}");
        }
    }

    #[test]
    fn a_second_init_adds_only_the_nodes_that_are_missing() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), "prod", &Nodes(vec![1]), 365, today()).unwrap();
        let again = init(dir.path(), "prod", &Nodes(vec![1, 2]), 365, today()).unwrap();
        assert!(!again.authority_created);
        assert_eq!(again.kept, [1]);
        assert_eq!(again.made[0].id, 2);
        let text = again.text();
        assert!(text.contains("used the authority"), "{text}");
        assert!(
            text.contains("kept the certificate that node 1 has"),
            "{text}"
        );
    }

    #[test]
    fn issue_replaces_a_certificate_and_shows_the_new_end() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), "prod", &Nodes(vec![1]), 10, today()).unwrap();
        issue(dir.path(), 1, 100, today()).unwrap();
        let rows: Vec<_> = inspect(dir.path(), today())
            .unwrap()
            .iter()
            .map(|paper| Row::new(paper, today()))
            .collect();
        let text = table(&rows);
        assert!(
            text.contains("node 1 of cluster prod: expires in 100 days"),
            "{text}"
        );
        assert!(
            text.contains("authority of cluster prod: expires in 3650 days"),
            "{text}"
        );
    }

    #[test]
    fn wrong_input_says_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let nodes = Nodes(vec![1]);
        let name = told(init(dir.path(), "Prod!", &nodes, 365, today()));
        assert!(name.contains("a-z, 0-9"), "{name}");
        let missing = told(issue(dir.path(), 1, 365, today()));
        assert!(missing.contains("mesonctl certs init"), "{missing}");
        init(dir.path(), "prod", &nodes, 365, today()).unwrap();
        let other = told(init(dir.path(), "test", &nodes, 365, today()));
        assert!(
            other.contains("of cluster \"prod\", not of \"test\""),
            "{other}"
        );
    }
}
