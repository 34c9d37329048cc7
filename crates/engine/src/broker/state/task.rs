//! An attempt that has left the queue, or came from elsewhere.

use bytes::Bytes;
use meson_core::ids::TaskId;
use meson_core::resources::Resources;
use meson_core::run::FailureClass;
use meson_core::units::{Duration, Timestamp};
use meson_mesos::types::TaskStatus;

use super::super::messages::AttemptState;
use super::super::queue::Entry;
use super::{News, Output};

/// First and longest time between two KILLs of the same task: most end at the first, and one
/// whose agent is out of sight is killed when it is seen again.
const KILL_AGAIN: Duration = Duration::from_secs(10);
const KILL_AGAIN_AT_LAST: Duration = Duration::from_secs(300);
/// News of a task that nobody claims that are kept for whoever does.
const UNHEARD: usize = 8;

/// An attempt that has left the queue, or came from elsewhere.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) agent: Option<String>,
    /// Zero while nobody has said what it holds, as of one that was launched by somebody else: it is
    /// not counted then.
    pub(super) resources: Resources,
    pub(super) owner: String,
    pub(super) stage: Stage,
    /// Somebody hears its news.
    pub(super) claimed: bool,
    /// Heard of from its executor or agent.
    pub(super) seen: bool,
    /// Its step actor was told that it is out of sight.
    pub(super) away: bool,
    pub(super) killing: bool,
    /// It is killed because its agent is about to be maintained, not because nobody wants it.
    pub(super) moving: bool,
    pub(super) kills: u32,
    /// Next time to say KILL again, or to ask whether an unclaimed one is wanted.
    pub(super) next: Option<Timestamp>,
    /// When it was launched, while it does not run yet.
    pub(super) launched_at: Option<Timestamp>,
    /// Progress is unreliable and unordered: the newest wins.
    pub(super) progress: u64,
    /// News that came before anybody claimed it.
    pub(super) unheard: Vec<TaskStatus>,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// An offer is held; becomes a queue entry again when the hold ends.
    Placed {
        entry: Box<Entry>,
        payload: Bytes,
        since: Timestamp,
        until: Timestamp,
    },
    /// Mesos was told, or knew before us.
    Launched,
}

impl Task {
    /// One that has a place.
    pub(super) fn placed(
        agent: String,
        entry: Entry,
        payload: Bytes,
        since: Timestamp,
        until: Timestamp,
    ) -> Self {
        Self {
            resources: entry.shape.resources,
            owner: entry.owner.clone(),
            stage: Stage::Placed {
                entry: Box::new(entry),
                payload,
                since,
                until,
            },
            claimed: true,
            ..Self::elsewhere(Some(agent))
        }
    }

    /// One that was launched by somebody else before.
    pub(super) fn elsewhere(agent: Option<String>) -> Self {
        Self {
            agent,
            resources: Resources::ZERO,
            owner: String::new(),
            stage: Stage::Launched,
            claimed: false,
            seen: false,
            away: false,
            killing: false,
            moving: false,
            kills: 0,
            next: None,
            launched_at: None,
            progress: 0,
            unheard: Vec::new(),
        }
    }

    pub(super) fn is_launched(&self) -> bool {
        matches!(self.stage, Stage::Launched)
    }

    /// It was launched by somebody else, and nobody has said yet what it holds.
    pub(super) fn is_uncounted(&self) -> bool {
        self.is_launched() && self.resources == Resources::ZERO
    }

    /// Kill it now, and again until it ends. Told once more, it changes nothing.
    pub(super) fn kill(&mut self, now: Timestamp) {
        if !std::mem::replace(&mut self.killing, true) {
            self.kills = 0;
            self.next = Some(now);
        }
    }

    /// It was killed once more: when to do it again.
    pub(super) fn killed_once_more(&mut self, now: Timestamp) {
        let wait = Duration(KILL_AGAIN.0 << self.kills.min(5)).min(KILL_AGAIN_AT_LAST);
        self.kills = self.kills.saturating_add(1);
        self.next = Some(now.after(wait));
    }

    /// It is seen to live although it was to be killed: the KILL may have been lost on the way.
    pub(super) fn lives_on(&mut self, now: Timestamp) {
        if self.killing && (self.kills > 1 || self.away) {
            self.kills = 0;
            self.next = Some(now);
        }
    }

    /// Keeps news for whoever claims it; the newest replace the oldest.
    pub(super) fn keep(&mut self, status: TaskStatus) {
        if self.unheard.iter().any(|known| {
            known.uuid.is_some() && known.uuid == status.uuid
                || known.uuid.is_none() && known == &status
        }) {
            return;
        }
        if self.unheard.len() >= UNHEARD {
            self.unheard.remove(0);
        }
        self.unheard.push(status);
    }
}

/// News that an attempt is over, at the platform's cost.
pub(super) fn lost(task: TaskId, message: impl Into<String>) -> Output {
    let state = AttemptState::Failed {
        class: FailureClass::Platform,
        message: message.into(),
        data: Bytes::new(),
    };
    Output::Signal(
        task,
        News::State {
            agent: None,
            uuid: None,
            state,
        },
    )
}
