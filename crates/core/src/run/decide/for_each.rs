//! The body once per item. However many items: a transition starts so many, and leaves a
//! note that there is more to do.

use serde_json::Value;

use super::{End, Task, Transition};
use crate::definition::{Items, NodeKind};
use crate::ids::Instance;
use crate::run::event::Event;
use crate::run::key::RecordKey;
use crate::run::limits;
use crate::run::record::{Group, GroupState, ItemsList, Loop, Todo, Work};
use crate::run::records::Records;
use crate::run::scope::Scope;

/// The part of a loop's node that decides how it goes on.
#[derive(Clone, Copy)]
struct Rules {
    body: crate::ids::NodeId,
    max_parallel: u32,
    tolerate: f64,
}

impl Transition<'_> {
    pub(super) fn enter_loop(&mut self, instance: Instance, known: Option<Group>) {
        let total = match known {
            // After a retry the items are still there.
            Some(Group::ForEach(Loop {
                total: Some(total), ..
            })) => Ok(total),
            _ => self.list_items(&instance),
        };
        let progress = Loop {
            total: total.as_ref().ok().copied(),
            ..Loop::default()
        };
        self.emit(Event::Entered {
            instance: instance.clone(),
            group: Group::ForEach(progress),
        });
        match total {
            Ok(_) => self.advance(instance, progress, None, false),
            Err(error) => self.end(instance, Err(error)),
        }
    }

    /// Evaluates the lists and keeps them. Gives the number of iterations.
    fn list_items(&mut self, instance: &Instance) -> Result<u32, Box<str>> {
        let plan = self.plan;
        let NodeKind::ForEach { over, .. } = plan.kind(instance.node) else {
            return Ok(0);
        };
        let mut lists = Vec::new();
        let mut chunks: Vec<Vec<Value>> = Vec::new();
        let mut bytes = 0usize;
        let mut total = 1u64;
        for (name, items) in over {
            let len = match items {
                Items::Literal(values) => {
                    lists.push(ItemsList {
                        len: length(values)?,
                        chunk: 0,
                        starts: Vec::new(),
                    });
                    values.len()
                }
                Items::Computed(expression) => {
                    let values = plan
                        .expression(expression)
                        .and_then(|compiled| {
                            let scope = Scope::new(plan, &self.records, instance);
                            compiled.list(&scope.context(compiled.references())?)
                        })
                        .map_err(|error| format!("for_each over {name}: {error}"))?;
                    let len = values.len();
                    // Number 0 is the table of contents.
                    let chunk = length(&chunks)?.saturating_add(1);
                    let mut list = ItemsList {
                        len: length(&values)?,
                        chunk,
                        starts: Vec::new(),
                    };
                    let mut room = 0usize;
                    for (index, value) in values.into_iter().enumerate() {
                        let size = serde_json::to_vec(&value)
                            .map_or(usize::MAX, |json| json.len())
                            .saturating_add(8);
                        if size > limits::CHUNK_BYTES {
                            return Err(format!(
                                "for_each over {name}: item {index} has {size} bytes, at most {} are allowed",
                                limits::CHUNK_BYTES
                            )
                            .into());
                        }
                        bytes = bytes.saturating_add(size);
                        if size > room {
                            chunks.push(Vec::new());
                            list.starts.push(u32::try_from(index).unwrap_or(u32::MAX));
                            room = limits::CHUNK_BYTES;
                        }
                        room -= size;
                        if let Some(chunk) = chunks.last_mut() {
                            chunk.push(value);
                        }
                    }
                    lists.push(list);
                    len
                }
            };
            total = total.saturating_mul(len as u64);
        }
        if bytes > limits::ITEMS_BYTES {
            return Err(format!(
                "for_each: the lists have more than {} bytes together",
                limits::ITEMS_BYTES
            )
            .into());
        }
        if total > u64::from(limits::ITERATIONS) {
            let most = limits::ITERATIONS;
            return Err(format!(
                "for_each: {total} iterations, at most {most} are allowed; do more in each"
            )
            .into());
        }
        self.emit(Event::ItemsListed {
            instance: instance.clone(),
            lists,
        });
        for (chunk, values) in (1u32..).zip(chunks) {
            self.emit(Event::ItemsStored {
                instance: instance.clone(),
                chunk,
                values,
            });
        }
        Ok(u32::try_from(total).unwrap_or(0))
    }

    pub(super) fn iteration_ended(&mut self, instance: Instance, progress: Loop, end: End) {
        let progress = Loop {
            running: progress.running.saturating_sub(1),
            succeeded: progress.succeeded + u32::from(end.is_ok()),
            failed: progress.failed + u32::from(end.is_err()),
            ..progress
        };
        self.advance(instance, progress, end.err(), false);
    }

    /// Starts more iterations where a transition before left off; false if there is nothing to do.
    pub(super) fn go_on_with_loop(&mut self, instance: &Instance) -> bool {
        match self.group_record(instance) {
            Some(group) if group.state == GroupState::Active => match group.kind {
                Group::ForEach(progress) => {
                    self.advance(instance.clone(), progress, None, true);
                    true
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Starts as many iterations as may be, and ends the loop if that was all.
    fn advance(
        &mut self,
        instance: Instance,
        mut progress: Loop,
        last: Option<Box<str>>,
        proceeding: bool,
    ) {
        let plan = self.plan;
        let NodeKind::ForEach {
            body,
            max_parallel,
            tolerate,
            ..
        } = plan.kind(instance.node)
        else {
            return;
        };
        let at_first = self.learning(*body, &progress).unwrap_or(u32::MAX);
        let rules = Rules {
            body: *body,
            max_parallel: max_parallel.unwrap_or(u32::MAX).min(at_first),
            tolerate: *tolerate,
        };
        let total = progress.total.unwrap_or(0);
        let before = self.group_record(&instance).map(|group| group.kind);
        let noted = self
            .records
            .get(&RecordKey::Todo(instance.clone()))
            .is_some();

        let hopeless =
            |progress: &Loop| f64::from(progress.failed) > rules.tolerate * f64::from(total) + 1e-9;
        let mut more = false;
        // Where there is a note, whoever takes care of it starts what is next.
        if !hopeless(&progress) && (proceeding || !noted) {
            more = self.start_iterations(&instance, rules, &mut progress, total);
        }
        if before != Some(Group::ForEach(progress)) {
            self.emit(Event::LoopMoved {
                instance: instance.clone(),
                progress,
            });
        }
        let unfinished = progress.next < total && !hopeless(&progress);
        if more && (proceeding || !noted) {
            let todo = Todo {
                generation: self.state().generation(),
                work: Work::Start,
            };
            self.emit(Event::TodoSet { instance, todo });
        } else if noted && (proceeding || !unfinished) {
            self.emit(Event::TodoDone {
                instance: instance.clone(),
            });
            self.end_loop(instance, progress, rules, unfinished, last);
        } else {
            self.end_loop(instance, progress, rules, unfinished, last);
        }
    }

    /// True if it stopped because the transition is long enough.
    fn start_iterations(
        &mut self,
        instance: &Instance,
        rules: Rules,
        progress: &mut Loop,
        total: u32,
    ) -> bool {
        let retried = self.state().generation() > 0;
        while progress.next < total && progress.running < rules.max_parallel {
            if self.starts == 0 || self.looks == 0 {
                return true;
            }
            let child = Instance {
                node: rules.body,
                path: instance.path.child(progress.next),
            };
            progress.next += 1;
            if retried {
                self.looks -= 1;
                if self.state().is_done(&child) {
                    progress.succeeded += 1;
                    continue;
                }
            }
            self.starts -= 1;
            progress.running += 1;
            self.ahead.push_back(Task::Enter(child));
        }
        false
    }

    fn end_loop(
        &mut self,
        instance: Instance,
        progress: Loop,
        rules: Rules,
        unfinished: bool,
        last: Option<Box<str>>,
    ) {
        if progress.running > 0 || unfinished {
            return;
        }
        let total = progress.total.unwrap_or(0);
        if f64::from(progress.failed) > rules.tolerate * f64::from(total) + 1e-9 {
            let last = last.map_or_else(String::new, |last| format!("; the last: {last}"));
            let error = format!("{} of {total} iterations failed{last}", progress.failed);
            return self.end(instance, Err(error.into()));
        }
        self.end(instance, Ok(()));
    }
}

fn length<T>(items: &[T]) -> Result<u32, Box<str>> {
    u32::try_from(items.len()).map_err(|_| "for_each: the list is too long".into())
}
