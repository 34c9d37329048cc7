//! Pools of resources: what their brokers say, and what an operator tells them.

use std::time::Duration;

use futures::future::join_all;
use meson_protocol::api::PoolView;

use super::Engine;
use crate::calls::{ShardCall, ShardReply};
use crate::error::{EngineError, similar};

/// Whoever looks at all pools does not wait longer for one of them.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

impl Engine {
    /// All pools, as their brokers see them; of one whose broker cannot be asked, why.
    pub async fn pools(&self) -> Vec<PoolView> {
        let factory = self.node.options().brokers.as_ref();
        let names = factory.map(|factory| factory.pools()).unwrap_or_default();
        let looks = names.into_iter().map(|name| async move {
            let view = self.look(&name, false, LOOK_WITHIN).await;
            view.unwrap_or_else(|error| PoolView {
                problem: Some(error.to_string()),
                name,
                ..PoolView::default()
            })
        });
        join_all(looks).await
    }

    /// Lets launching in a pool go on that has stopped by itself.
    ///
    /// # Errors
    /// There is no such pool, or its broker cannot be asked.
    pub async fn release_pool(&self, name: &str) -> Result<PoolView, EngineError> {
        let factory = self.node.options().brokers.as_ref();
        let names = factory.map(|factory| factory.pools()).unwrap_or_default();
        if !names.iter().any(|known| known == name) {
            return Err(EngineError::PoolNotFound {
                pool: name.to_owned(),
                similar: similar(name, names.iter().map(String::as_str)),
            });
        }
        self.look(name, true, self.node.timing().call).await
    }

    async fn look(
        &self,
        name: &str,
        release_brake: bool,
        limit: Duration,
    ) -> Result<PoolView, EngineError> {
        let pool = name.to_owned();
        let call = ShardCall::Pool {
            pool,
            release_brake,
        };
        let unavailable = |reason: &str| EngineError::Unavailable {
            action: "look at a pool",
            reason: reason.to_owned(),
        };
        let shard = self.node.shard_at(&self.node.pool_place(name));
        let shard = shard.ok_or_else(|| unavailable("the node has no shards"))?;
        match self.node.call_shard_within(&shard, call, limit).await? {
            ShardReply::Pool(Some(view)) => Ok(view),
            ShardReply::Pool(None) => Err(unavailable("its broker is being started")),
            other => Err(other.unexpected("look at a pool")),
        }
    }
}
