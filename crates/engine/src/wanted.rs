//! The broker's question whether a task that it does not know is still of interest.

use meson_core::ids::TaskId;

use crate::calls::{ShardCall, ShardReply};
use crate::error::EngineError;
use crate::layout::Place;
use crate::node::Node;
use crate::pool::WantedTasks;

pub(crate) struct Wanted {
    node: Node,
}

impl Wanted {
    pub(crate) fn new(node: Node) -> Self {
        Self { node }
    }
}

#[async_trait::async_trait]
impl WantedTasks for Wanted {
    async fn is_wanted(&self, task: &TaskId) -> Result<bool, EngineError> {
        let call = ShardCall::IsWanted { task: task.clone() };
        match self.node.call(&Place::run(&task.run), call).await? {
            ShardReply::IsWanted(wanted) => Ok(wanted),
            other => Err(other.unexpected("ask whether an attempt is wanted")),
        }
    }
}
