//! The broker and whom it subscribes to, as a script: ids, ends of sessions.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use meson_actors::{BoxError, ChildSpec, Supervisor};
use meson_core::resources::Resources;
use meson_engine::broker::manager::{Calls, ResourceManager, Session, SessionEnd, SubscribeError};
use meson_engine::broker::{BrokerActor, ExecutorTemplate, Settings};
use meson_engine::pool::{BrokerContext, BrokerFactory};
use meson_mesos::scheduler::{Call, Event, Offers};
use meson_mesos::types::{AgentId, CommandInfo, FrameworkId, Offer, OfferId, Resource};
use tokio::sync::mpsc;

use crate::scripted::Cluster;
use crate::world::{World, until};

/// A resource manager that gives out ids and writes down who comes.
#[derive(Default)]
struct Master {
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    /// The ids that brokers came with.
    subscribed: Vec<Option<String>>,
    calls: Vec<Call>,
    /// Ids that were given out.
    given: u32,
    /// To answer the next one who comes with an id.
    removed: bool,
    /// So many calls that give offers back are not taken.
    deaf: usize,
    /// Ends the session.
    end: Option<mpsc::Sender<Result<Event, SessionEnd>>>,
}

struct Recorder(Arc<Master>);

#[async_trait]
impl ResourceManager for Recorder {
    async fn subscribe(&self, id: Option<FrameworkId>) -> Result<Session, SubscribeError> {
        let mut log = self.0.log.lock().expect("nobody panicked");
        let id = id.map(|id| id.as_str().to_owned());
        log.subscribed.push(id.clone());
        if id.is_some() && std::mem::take(&mut log.removed) {
            return Err(SubscribeError::Removed("it was torn down".to_owned()));
        }
        let framework = id.unwrap_or_else(|| {
            log.given += 1;
            format!("f-{}", log.given)
        });
        let (end, events) = mpsc::channel(8);
        log.end = Some(end);
        Ok(Session {
            framework: FrameworkId::new(framework),
            events: tokio_stream::wrappers::ReceiverStream::new(events).boxed(),
            calls: Arc::new(Recorder(Arc::clone(&self.0))),
        })
    }
}

#[async_trait]
impl Calls for Recorder {
    async fn call(&self, call: Call) -> Result<(), String> {
        let mut log = self.0.log.lock().expect("nobody panicked");
        let gives_back = matches!(call, Call::Decline(_));
        log.calls.push(call);
        if gives_back && log.deaf > 0 {
            log.deaf -= 1;
            return Err("the connection was reset".to_owned());
        }
        Ok(())
    }
}

struct Factory(Arc<Master>);

impl BrokerFactory for Factory {
    fn pools(&self) -> Vec<String> {
        vec!["default".to_owned()]
    }

    fn start(&self, supervisor: &Supervisor, context: BrokerContext) -> Result<(), BoxError> {
        let executor = ExecutorTemplate {
            command: CommandInfo::shell("meson-executor"),
            resources: Resources::ZERO,
        };
        let (own, master) = (context.clone(), Arc::clone(&self.0));
        let child = supervisor.start_child(ChildSpec::new("broker", move |_| {
            let (context, manager) = (own.clone(), Arc::new(Recorder(Arc::clone(&master))));
            let settings = Settings::new("*", executor.clone());
            async move { Ok(BrokerActor::new(settings, context, manager)) }
        }))?;
        context.publish(&child);
        Ok(())
    }
}

impl Master {
    async fn open(self: &Arc<Self>, dir: &std::path::Path) -> World {
        let master = Arc::clone(self);
        let change = |options: &mut meson_engine::EngineOptions| {
            options.brokers = Some(Arc::new(Factory(master)));
        };
        World::open_with(dir, &Cluster::willing(), 1, change).await
    }

    fn subscribed(&self) -> Vec<Option<String>> {
        self.log.lock().expect("nobody panicked").subscribed.clone()
    }

    /// Waits until somebody has subscribed so often, and has begun to work.
    async fn heard(&self, times: usize) {
        until("a session", async || {
            let log = self.log.lock().expect("nobody panicked");
            log.subscribed.len() >= times && !log.calls.is_empty()
        })
        .await;
    }

    async fn offer(&self, id: &str) {
        let events = self.log.lock().expect("nobody panicked").end.clone();
        let offer = Offer {
            id: OfferId::new(id),
            agent_id: AgentId::new("a"),
            resources: vec![Resource::scalar("cpus", 4.0)],
            ..Offer::default()
        };
        let offers = Event::Offers(Offers {
            offers: vec![offer],
        });
        let events = events.expect("a session");
        events.send(Ok(offers)).await.expect("somebody listens");
    }

    /// How often this offer was given back.
    fn declined(&self, id: &str) -> usize {
        let log = self.log.lock().expect("nobody panicked");
        let declined = log.calls.iter().filter_map(|call| match call {
            Call::Decline(decline) => Some(&decline.offer_ids),
            _ => None,
        });
        declined
            .filter(|ids| ids.contains(&OfferId::new(id)))
            .count()
    }

    async fn end_session(&self, reason: SessionEnd) {
        let end = {
            let mut log = self.log.lock().expect("nobody panicked");
            log.calls.clear();
            log.end.take().expect("a session")
        };
        end.send(Err(reason)).await.expect("somebody listens");
    }
}

fn id(id: &str) -> Option<String> {
    Some(id.to_owned())
}

#[actix::test]
async fn item_02_the_frameworks_id_is_durable_before_anything_else_and_used_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let master = Arc::new(Master::default());
    let world = master.open(dir.path()).await;
    master.heard(1).await;
    // As soon as it makes its first call, a coordinator that is killed and started again knows it.
    world.close().await;
    let world = master.open(dir.path()).await;
    master.heard(2).await;
    master
        .end_session(SessionEnd::Lost("the master is killed".to_owned()))
        .await;
    master.heard(3).await;
    assert_eq!(master.subscribed(), [None, id("f-1"), id("f-1")]);
    world.close().await;
}

#[actix::test]
async fn item_02_a_framework_that_was_removed_is_replaced_and_the_new_id_kept() {
    let dir = tempfile::tempdir().unwrap();
    let master = Arc::new(Master::default());
    let world = master.open(dir.path()).await;
    master.heard(1).await;
    master.log.lock().unwrap().removed = true;
    master
        .end_session(SessionEnd::Lost("the master is killed".to_owned()))
        .await;
    master.heard(3).await;
    master
        .end_session(SessionEnd::Removed("once more".to_owned()))
        .await;
    master.heard(4).await;
    world.close().await;
    let world = master.open(dir.path()).await;
    master.heard(5).await;
    let seen = master.subscribed();
    assert_eq!(seen, [None, id("f-1"), None, None, id("f-3")]);
    world.close().await;
}

#[actix::test]
async fn item_04_a_broker_that_was_fenced_off_does_not_fight() {
    let dir = tempfile::tempdir().unwrap();
    let master = Arc::new(Master::default());
    let world = master.open(dir.path()).await;
    master.heard(1).await;
    let began = tokio::time::Instant::now();
    master.end_session(SessionEnd::Fenced).await;
    until("it comes back", async || master.subscribed().len() >= 2).await;
    assert!(
        began.elapsed() >= Duration::from_secs(4),
        "it leaves the other one time"
    );
    world.close().await;
}

#[actix::test]
async fn item_19_an_answer_to_an_offer_that_was_not_taken_is_said_again_and_then_the_session_is_given_up()
 {
    let dir = tempfile::tempdir().unwrap();
    let master = Arc::new(Master::default());
    let world = master.open(dir.path()).await;
    master.heard(1).await;
    master.log.lock().unwrap().deaf = 1;
    master.offer("o1").await;
    until("it is said again", async || master.declined("o1") == 2).await;
    master.offer("o2").await;
    until("the session goes on", async || master.declined("o2") == 1).await;
    assert_eq!(master.subscribed().len(), 1);
    // Else the master would keep the offer for us for ever.
    master.log.lock().unwrap().deaf = 2;
    master.offer("o3").await;
    until("a new session", async || master.subscribed().len() == 2).await;
    assert_eq!(master.declined("o3"), 2);
    world.close().await;
}
