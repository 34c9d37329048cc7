//! The master: a pure core, and an HTTP server around it.
//!
//! [`Master::handle`] takes an [`Input`] and the time and gives [`Output`]s. It knows no
//! socket, clock, thread or random number, and iterates over ordered maps only: the same
//! inputs give the same outputs, in a test, in a simulation and behind HTTP.
//!
//! | file | holds |
//! |---|---|
//! | `state`, `books` | what the master knows; the books of resources |
//! | `frameworks` | SUBSCRIBE, failover, TEARDOWN, UPDATE_FRAMEWORK, SUPPRESS, REVIVE |
//! | `agents`, `stock`, `departure` | registration, pings; what a returning agent has; partition, departure |
//! | `allocator`, `constraints` | who is offered what, filters; what frameworks want to be offered |
//! | `maintenance`, `drain` | planned maintenance, inverse offers; agents out of service |
//! | `accept`, `validation` | ACCEPT and DECLINE: which launches are good |
//! | `operations` | RESERVE and UNRESERVE |
//! | `tasks` | updates, acknowledgements, KILL, RECONCILE, messages |
//! | `registry` | what survives a restart |
//! | `operator`, `views` | the operator API: calls, and answers to questions |
//! | `summary` | the answer to `/state` |
//! | `cli` | the command line |
//! | `decode`, `http`, `operator_http`, `server` | the shell: bytes to calls, streams, timers |
//! | `front`, `auth`, `tls` | the gate before it: who leads, who asks, in which encoding |
//! | `election` | several masters, of which one leads |
//!
//! A call passes through `http` → `decode` → [`Master::handle`]; its outputs go to the
//! streams that `server` keeps.

mod accept;
mod agents;
mod allocator;
mod auth;
mod books;
pub mod cli;
mod constraints;
mod decode;
mod departure;
mod drain;
mod election;
mod formats;
mod frameworks;
mod front;
mod http;
mod input;
mod maintenance;
mod operations;
mod operator;
mod operator_http;
mod registry;
mod roles;
mod server;
mod state;
mod stock;
mod summary;
mod tasks;
mod tls;
mod validation;
mod views;

#[cfg(test)]
mod tests;

pub use auth::{Credentials, CredentialsError};
pub use drain::{Deactivation, Drain};
pub use election::{Election, Leadership};
pub use input::{Input, Moment, Output, Reply, StreamId};
pub use maintenance::{MachineId, Schedule, Window};
pub use operator::{OperatorCall, View};
pub use registry::{Registry, RegistryError, RegistryFile};
pub use server::{MasterError, MasterHandle, MasterOptions, start};
pub use state::{Config, Master};
pub use tls::{ServerTls, TlsError};

use crate::link::FromAgent;
use meson_mesos::scheduler::Call;
use meson_mesos::types::{AgentId, FrameworkId};

impl Master {
    /// Takes something that happened, and says what to do about it.
    ///
    /// `now` must not go back between calls.
    pub fn handle(&mut self, input: Input, now: Moment) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Subscribe {
                stream,
                framework_id,
                subscribe,
            } => {
                self.subscribe(stream, framework_id, *subscribe, now, &mut out);
            }
            Input::Call {
                framework_id,
                stream,
                call,
            } => {
                let reply = self.call(&framework_id, stream.as_ref(), *call, now, &mut out);
                out.push(Output::Reply(reply));
            }
            Input::SchedulerGone { stream } => self.scheduler_gone(&stream, now, &mut out),
            Input::AgentHello { stream, hello } => self.agent_hello(stream, *hello, now, &mut out),
            Input::AgentCall {
                agent_id,
                stream,
                call,
            } => {
                let reply = self.agent_call(&agent_id, &stream, *call, now, &mut out);
                out.push(Output::Reply(reply));
            }
            Input::AgentGone { stream } => self.agent_stream_gone(&stream, now, &mut out),
            Input::MarkAgentGone { agent_id } => self.mark_gone(&agent_id, now, &mut out),
            Input::Operator(call) => {
                let reply = self.operator_call(*call, now, &mut out);
                out.push(Output::Reply(reply));
            }
            Input::Teardown { framework_id } => {
                let reply = if self.frameworks.contains_key(&framework_id) {
                    self.remove_framework(&framework_id, &mut out);
                    Reply::Ok
                } else {
                    Reply::BadRequest("No framework found with specified ID".to_owned())
                };
                out.push(Output::Reply(reply));
            }
            Input::Tick => self.tick(now, &mut out),
        }
        out
    }

    /// When the next [`Input::Tick`] is due. A later one does no harm but delay.
    pub fn next_tick(&self) -> Moment {
        let offers = self.offers.values().filter_map(|offer| offer.expires);
        let frameworks = self.frameworks.values().map(|framework| framework.due());
        let agents = self.agents.values().map(|agent| agent.ping.next);
        let operations = self.frameworks.values();
        let operations = operations.filter_map(|framework| framework.next_repeat());
        offers
            .chain(operations)
            .chain(frameworks)
            .chain(agents)
            .fold(self.next_allocation, Moment::min)
    }

    fn tick(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.ping_agents(now, out);
        self.give_up_recovered(now, out);
        self.expire_frameworks(now, out);
        self.heartbeat(now, out);
        self.repeat_operations(now, out);
        self.finish_drains(now, out);
        self.expire_offers(now, out);
        if self.next_allocation <= now {
            while self.next_allocation <= now {
                self.next_allocation =
                    self.next_allocation + self.config.allocation_interval.max(MIN_INTERVAL);
                // After a long pause the missed runs are not made up for.
                if self.next_allocation + self.config.allocation_interval * 10 < now {
                    self.next_allocation = now;
                }
            }
            self.drop_expired_filters(now);
            self.allocate(None, now, out);
        }
    }

    fn call(
        &mut self,
        framework_id: &FrameworkId,
        stream: Option<&StreamId>,
        call: Call,
        now: Moment,
        out: &mut Vec<Output>,
    ) -> Reply {
        // The order of these checks is the real one's (`Master::Http::scheduler`).
        let Some(framework) = self.frameworks.get(framework_id) else {
            return Reply::BadRequest("Framework cannot be found".to_owned());
        };
        let Some(current) = framework.stream() else {
            return Reply::Forbidden("Framework is not subscribed".to_owned());
        };
        let Some(stream) = stream else {
            return Reply::BadRequest(
                "All non-subscribe calls should include the 'Mesos-Stream-Id' header".to_owned(),
            );
        };
        if stream != current {
            return Reply::BadRequest(format!(
                "The stream ID '{stream}' included in this request didn't match the stream ID currently \
                 associated with framework ID {framework_id}"
            ));
        }
        match call {
            Call::Accept(accept) => self.accept(framework_id, accept, now, out),
            Call::Decline(decline) => self.decline(framework_id, &decline, now),
            Call::Revive(roles) => self.revive(framework_id, &roles.roles, now, out),
            Call::Suppress(roles) => self.suppress(framework_id, &roles.roles),
            Call::Kill(kill) => self.kill(framework_id, kill, now, out),
            Call::Shutdown(shutdown) => self.shutdown_executor(framework_id, shutdown, out),
            Call::Acknowledge(acknowledge) => self.acknowledge(framework_id, acknowledge, out),
            Call::Reconcile(reconcile) => self.reconcile(framework_id, &reconcile, now, out),
            Call::Message(message) => self.message_to_executor(framework_id, message, out),
            Call::AcceptInverseOffers(answer) => {
                self.answer_inverse_offers(framework_id, &answer, true, now);
            }
            Call::DeclineInverseOffers(answer) => {
                self.answer_inverse_offers(framework_id, &answer, false, now);
            }
            Call::AcknowledgeOperationStatus(body) => {
                self.acknowledge_operation(framework_id, &body);
            }
            Call::ReconcileOperations(body) => {
                self.reconcile_operations(framework_id, &body, out);
            }
            Call::UpdateFramework(update) => {
                return self.update_framework(framework_id, update, out);
            }
            Call::Teardown => self.remove_framework(framework_id, out),
            // Taken and without effect, as the real one does when nothing comes of them.
            _ => {}
        }
        Reply::Accepted
    }

    fn agent_call(
        &mut self,
        agent_id: &AgentId,
        stream: &StreamId,
        call: FromAgent,
        now: Moment,
        out: &mut Vec<Output>,
    ) -> Reply {
        let current = self
            .agents
            .get(agent_id)
            .and_then(|agent| agent.stream.as_ref());
        if current != Some(stream) {
            return Reply::Conflict(format!(
                "stream '{stream}' is not the current one of agent {agent_id}"
            ));
        }
        match call {
            FromAgent::StatusUpdate {
                framework_id,
                status,
                latest_state,
            } => {
                self.status_update(agent_id, &framework_id, *status, latest_state, out);
            }
            FromAgent::ExecutorMessage {
                framework_id,
                executor_id,
                data,
            } => {
                self.message_to_scheduler(agent_id, &framework_id, executor_id, data, out);
            }
            FromAgent::ExecutorTerminated {
                framework_id,
                executor_id,
                status,
                is_command_executor,
            } => {
                self.executor_terminated(
                    agent_id,
                    &framework_id,
                    executor_id,
                    status,
                    is_command_executor,
                    out,
                );
            }
            FromAgent::Pong { sequence } => self.pong(agent_id, sequence),
            FromAgent::Unregister => self.unregister(agent_id, now, out),
        }
        Reply::Accepted
    }
}

/// An allocation interval below this is taken as this.
const MIN_INTERVAL: std::time::Duration = std::time::Duration::from_millis(1);
