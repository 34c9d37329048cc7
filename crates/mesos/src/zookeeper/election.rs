//! Joining the masters below a path, and seeing which of them leads.

use super::session::{Session, ZkError};
use super::url::ZkUrl;
use crate::types::MasterInfo;

/// What a master's node is called; a number follows.
const PREFIX: &str = "json.info_";

/// The master that leads.
#[derive(Clone, Debug, PartialEq)]
pub struct Leader {
    /// The path of its node.
    pub node: String,
    /// As it describes itself.
    pub info: MasterInfo,
}

/// Joins the masters, and returns the path of the node. Whoever's node is the one of [`leader`]
/// leads.
///
/// # Errors
/// When ZooKeeper does not make the node.
pub async fn join(
    session: &mut Session,
    url: &ZkUrl,
    info: &MasterInfo,
) -> Result<String, ZkError> {
    for (end, _) in url.path.match_indices('/').skip(1) {
        session.ensure(&url.path[..end]).await?;
    }
    session.ensure(&url.path).await?;
    let data = serde_json::to_vec(info).map_err(|_| ZkError::Malformed)?;
    session
        .enter(&format!("{}/{PREFIX}", url.path), &data)
        .await
}

/// Who leads now. After this, [`Session::changed`] tells when that may be different.
///
/// # Errors
/// When ZooKeeper does not say.
pub async fn leader(session: &mut Session, url: &ZkUrl) -> Result<Option<Leader>, ZkError> {
    loop {
        let children = match session.watch_children(&url.path).await {
            Ok(children) => children,
            Err(ZkError::NoNode(_)) => {
                // Made between the two questions: ask again.
                if session.watch_existence(&url.path).await? {
                    continue;
                }
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Some(first) = first(&children) else {
            return Ok(None);
        };
        let node = format!("{}/{first}", url.path);
        match session.data(&node).await {
            Ok(data) => {
                let info = serde_json::from_slice(&data).map_err(|error| {
                    tracing::warn!(node, %error, "a master's node cannot be understood");
                    ZkError::Malformed
                })?;
                return Ok(Some(Leader { node, info }));
            }
            // It has gone since.
            Err(ZkError::NoNode(_)) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The master that came first. Other nodes may lie beside those of masters.
fn first(children: &[String]) -> Option<&str> {
    let masters = children.iter().filter_map(|child| {
        let number = child.strip_prefix(PREFIX)?;
        Some((number.parse::<i64>().ok()?, child.as_str()))
    });
    masters.min().map(|(_, child)| child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_number_leads() {
        let children = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let these: Vec<String> = children(&[
            "json.info_0000000012",
            "json.info_0000000009",
            "log_replicas",
            "info_0000000001",
            "json.info_x",
        ]);
        assert_eq!(first(&these), Some("json.info_0000000009"));
        assert_eq!(first(&children(&["log_replicas"])), None);
        // Numbers wrap around below zero after two thousand million masters.
        let these: Vec<String> = children(&["json.info_0000000001", "json.info_-2147483648"]);
        assert_eq!(first(&these), Some("json.info_-2147483648"));
    }
}
