use std::collections::HashMap;

use crate::Record;
use crate::leakage::persona;
use crate::text::normalised_query;

/// Indices of the records that belong together, in the order of their first ones.
pub(super) fn groups(records: &[Record]) -> Vec<Vec<usize>> {
    let mut forest = Forest((0..records.len()).collect());
    let (mut personas, mut queries) = (HashMap::new(), HashMap::new());
    for (index, record) in records.iter().enumerate() {
        if let Some(persona) = persona(record) {
            forest.join(*personas.entry(persona).or_insert(index), index);
        }
        forest.join(*queries.entry(normalised_query(&record.query)).or_insert(index), index);
    }
    let mut places = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for index in 0..records.len() {
        let place = *places.entry(forest.root(index)).or_insert(groups.len());
        if place == groups.len() {
            groups.push(Vec::new());
        }
        groups[place].push(index);
    }
    groups
}

/// For each record one that it belongs with, or itself.
struct Forest(Vec<usize>);

impl Forest {
    fn root(&mut self, mut index: usize) -> usize {
        while self.0[index] != index {
            self.0[index] = self.0[self.0[index]];
            index = self.0[index];
        }
        index
    }

    fn join(&mut self, left: usize, right: usize) {
        let (left, right) = (self.root(left), self.root(right));
        self.0[left.max(right)] = left.min(right);
    }
}
