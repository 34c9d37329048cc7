//! How a broker is started, whatever resource manager it speaks to.

use std::sync::Arc;

use meson_actors::{BoxError, ChildSpec, Restart, Supervisor};

use super::actor::BrokerActor;
use super::manager::ResourceManager;
use super::state::Settings;
use crate::pool::BrokerContext;

/// Messages of step actors that may wait: a wide loop asks for thousands of places at once.
const MAILBOX: usize = 65_536;

/// Starts the broker of a pool as a child of `supervisor`, and publishes it.
///
/// # Errors
/// The supervisor takes no more children.
pub fn start(
    supervisor: &Supervisor,
    context: BrokerContext,
    settings: Settings,
    manager: Arc<dyn ResourceManager>,
) -> Result<(), BoxError> {
    let key = format!("broker {}", context.pool);
    let publisher = context.clone();
    let factory = move |_| {
        let (settings, context, manager) =
            (settings.clone(), context.clone(), Arc::clone(&manager));
        async move { Ok(BrokerActor::new(settings, context, manager)) }
    };
    let child = supervisor.start_child(
        ChildSpec::new(key, factory)
            .restart(Restart::Permanent)
            .mailbox(MAILBOX),
    )?;
    publisher.publish(&child);
    Ok(())
}
