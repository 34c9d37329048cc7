//! What an expression sees: parameters, loop variables, outputs of steps before it. Only what
//! it refers to is read, so that a wide loop costs nothing to those who do not ask for it.

use serde_json::{Map, Value, json};

use super::key::RecordKey;
use super::limits;
use super::plan::Plan;
use super::record::{Group, ItemsList, Record};
use super::records::Records;
use super::state::{State, header};
use crate::definition::{Items, NodeKind, Step};
use crate::expression::{EvalError, Reference};
use crate::ids::{Instance, IterPath, NodeId};

/// Everything that an expression at some place may refer to.
pub(super) struct Scope<'a> {
    state: State<'a>,
    /// Whose expression it is. For what is evaluated after a loop's body: the body.
    at: &'a Instance,
}

impl<'a> Scope<'a> {
    pub(super) fn new(plan: &'a Plan, records: &'a dyn Records, at: &'a Instance) -> Self {
        Self {
            state: State::new(plan, records),
            at,
        }
    }

    /// The context for an expression that refers to these.
    pub(super) fn context<'r>(
        &self,
        references: impl IntoIterator<Item = &'r Reference>,
    ) -> Result<Value, EvalError> {
        let mut context = Map::new();
        let mut room = limits::GATHERED_BYTES;
        for reference in references {
            let root = reference.root.as_str();
            match root {
                "params" => self.params(&mut context, reference),
                "run" => self.run(&mut context),
                "steps" => {
                    if let Some((name, rest)) = reference.path.split_first()
                        && let Some(node) = self.state.plan.step_named(name)
                    {
                        let steps = context.entry("steps").or_insert_with(|| json!({}));
                        if let Value::Object(steps) = steps {
                            let entry = steps.entry(name.as_str()).or_insert_with(|| json!({}));
                            self.outputs(entry, node, rest.first(), &mut room)?;
                        }
                    }
                }
                _ => {
                    if let Some(value) = self.item(root)? {
                        context.insert(root.to_owned(), value);
                    } else if let Some(node) = self.state.plan.step_named(root) {
                        let entry = context.entry(root).or_insert_with(|| json!({}));
                        self.outputs(entry, node, reference.path.first(), &mut room)?;
                    } else if let Some(round) = self.round().filter(|_| root == "round") {
                        context.insert(root.to_owned(), json!(round));
                    }
                }
            }
        }
        Ok(Value::Object(context))
    }

    fn params(&self, context: &mut Map<String, Value>, reference: &Reference) {
        let Some(header) = header(self.state.records) else {
            return;
        };
        let Value::Object(params) = context.entry("params").or_insert_with(|| json!({})) else {
            return;
        };
        for (name, value) in &header.params {
            if reference.path.first().is_none_or(|wanted| wanted == name)
                && !params.contains_key(name)
            {
                params.insert(name.clone(), value.clone());
            }
        }
    }

    fn run(&self, context: &mut Map<String, Value>) {
        if let Some(header) = header(self.state.records) {
            context.insert(
                "run".to_owned(),
                json!({ "id": header.id, "workflow": header.workflow }),
            );
        }
    }

    /// Adds an output of a step, or all of them, to the object that stands for it.
    fn outputs(
        &self,
        entry: &mut Value,
        node: NodeId,
        output: Option<&String>,
        room: &mut usize,
    ) -> Result<(), EvalError> {
        let (Value::Object(fields), Some(step)) = (entry, self.state.plan.step(node)) else {
            return Ok(());
        };
        for name in outputs_of(step).filter(|name| output.is_none_or(|wanted| wanted == name)) {
            if !fields.contains_key(name) {
                fields.insert(name.to_owned(), self.output(node, step, name, room)?);
            }
        }
        Ok(())
    }

    fn output(
        &self,
        node: NodeId,
        step: &Step,
        output: &str,
        room: &mut usize,
    ) -> Result<Value, EvalError> {
        let plan = self.state.plan;
        let (theirs, ours) = (plan.loops(node), plan.loops(self.at.node));
        let common = theirs.iter().zip(ours).take_while(|(a, b)| a == b).count();
        let gathered = self.gather(node, output, common, self.at.path.prefix(common), room)?;
        gathered.ok_or_else(|| {
            EvalError::State(format!(
                "the outputs {}.{output} of all iterations have more than {} bytes: leave large data in artifacts",
                step.name,
                limits::GATHERED_BYTES
            ))
        })
    }

    /// The output below `path`; none if it is too large.
    fn gather(
        &self,
        node: NodeId,
        output: &str,
        level: usize,
        path: IterPath,
        room: &mut usize,
    ) -> Result<Option<Value>, EvalError> {
        let Some(&around) = self.state.plan.loops(node).get(level) else {
            let value = self.own_output(&Instance { node, path }, output);
            return Ok(fits(&value, room).then_some(value));
        };
        let group = self
            .state
            .group(&Instance {
                node: around,
                path: path.clone(),
            })
            .map(|group| group.kind.clone());
        match group {
            Some(Group::Repeat { round, .. }) => {
                self.gather(node, output, level + 1, path.child(round), room)
            }
            Some(Group::ForEach(progress)) => {
                let mut values = Vec::new();
                for index in 0..progress.total.unwrap_or(0) {
                    match self.gather(node, output, level + 1, path.child(index), room)? {
                        Some(value) => values.push(value),
                        None => return Ok(None),
                    }
                }
                Ok(Some(Value::Array(values)))
            }
            _ => Ok(Some(Value::Null)),
        }
    }

    fn own_output(&self, instance: &Instance, output: &str) -> Value {
        if !self.state.is_done(instance) {
            return Value::Null;
        }
        match self
            .state
            .records
            .get(&RecordKey::Outputs(instance.clone()))
            .as_deref()
        {
            Some(Record::Outputs(outputs)) => outputs.get(output).cloned().unwrap_or(Value::Null),
            _ => Value::Null,
        }
    }

    /// The round of the innermost repeat around, from 1.
    fn round(&self) -> Option<u64> {
        let loops = self.state.plan.loops(self.at.node);
        let (level, _) = loops.iter().enumerate().rev().find(|(_, around)| {
            matches!(self.state.plan.kind(**around), NodeKind::Repeat { .. })
        })?;
        self.at.path.0.get(level).map(|round| u64::from(*round) + 1)
    }

    /// The value of a loop variable, if there is one of this name around.
    fn item(&self, name: &str) -> Result<Option<Value>, EvalError> {
        let loops = self.state.plan.loops(self.at.node);
        for (level, around) in loops.iter().enumerate().rev() {
            if let NodeKind::ForEach { over, .. } = self.state.plan.kind(*around)
                && let Some(variable) = over.iter().position(|(variable, _)| variable == name)
            {
                let index = self.at.path.0.get(level).copied().unwrap_or(0);
                let instance = Instance {
                    node: *around,
                    path: self.at.path.prefix(level),
                };
                return item(&self.state, &instance, over, variable, index).map(Some);
            }
        }
        Ok(None)
    }

    /// All loop variables in scope.
    pub(super) fn items(&self) -> Result<Vec<(String, Value)>, EvalError> {
        let mut items = Vec::new();
        for (level, around) in self.state.plan.loops(self.at.node).iter().enumerate() {
            if let NodeKind::ForEach { over, .. } = self.state.plan.kind(*around) {
                let index = self.at.path.0.get(level).copied().unwrap_or(0);
                let instance = Instance {
                    node: *around,
                    path: self.at.path.prefix(level),
                };
                for (variable, (name, _)) in over.iter().enumerate() {
                    items.push((
                        name.clone(),
                        item(&self.state, &instance, over, variable, index)?,
                    ));
                }
            }
        }
        Ok(items)
    }
}

/// The names under which a step leaves something.
pub(super) fn outputs_of(step: &Step) -> impl Iterator<Item = &str> {
    step.outputs
        .iter()
        .map(String::as_str)
        .chain(step.produces.iter().map(|produces| produces.name.as_str()))
}

fn fits(value: &Value, room: &mut usize) -> bool {
    let bytes = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 8,
        other => serde_json::to_vec(other).map_or(usize::MAX, |json| json.len()),
    };
    match room.checked_sub(bytes) {
        Some(left) => {
            *room = left;
            true
        }
        None => false,
    }
}

/// The value of a loop variable in iteration `index` of the grid; the last variable is fastest.
fn item(
    state: &State<'_>,
    instance: &Instance,
    over: &[(String, Items)],
    variable: usize,
    index: u32,
) -> Result<Value, EvalError> {
    let lost = || {
        EvalError::State(format!(
            "the lists of the loop at node {} are not there",
            instance.node.0
        ))
    };
    let index_record = state.records.get(&RecordKey::Items(instance.clone(), 0));
    let lists: &[ItemsList] = match index_record.as_deref() {
        Some(Record::ItemsIndex(lists)) => lists,
        _ => return Err(lost()),
    };
    let faster: u64 = lists
        .iter()
        .skip(variable + 1)
        .map(|list| u64::from(list.len))
        .product();
    let list = lists
        .get(variable)
        .filter(|list| list.len > 0)
        .ok_or_else(lost)?;
    let position =
        usize::try_from(u64::from(index) / faster.max(1) % u64::from(list.len)).unwrap_or(0);
    if list.chunk == 0 {
        return match over.get(variable) {
            Some((_, Items::Literal(values))) => values.get(position).cloned().ok_or_else(lost),
            _ => Err(lost()),
        };
    }
    let place = list
        .starts
        .partition_point(|&start| start as usize <= position)
        .saturating_sub(1);
    let start = list.starts.get(place).copied().unwrap_or(0) as usize;
    let chunk = list
        .chunk
        .saturating_add(u32::try_from(place).unwrap_or(u32::MAX));
    match state
        .records
        .get(&RecordKey::Items(instance.clone(), chunk))
        .as_deref()
    {
        Some(Record::Items(values)) => values
            .get(position - start.min(position))
            .cloned()
            .ok_or_else(lost),
        _ => Err(lost()),
    }
}
