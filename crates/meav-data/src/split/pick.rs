use std::collections::BTreeMap;

type Group = Vec<usize>;

/// Takes groups whose records come as close to `target` as any choice of them does; one at least,
/// and so that `reserved` groups are left; none at all if the target is 0.
///
/// The groups come shuffled: the first that fit are taken, which is exact as soon as there are
/// enough small ones. Only where it is not are all sums looked through.
pub(super) fn take(groups: &mut Vec<Group>, target: usize, reserved: usize) -> Option<Vec<Group>> {
    if target == 0 {
        return Some(Vec::new());
    }
    let most = groups.len().checked_sub(reserved).filter(|most| *most > 0)?;
    let mut picked = first_that_fit(groups, target);
    let sum: usize = picked.iter().map(|index| groups[*index].len()).sum();
    if sum != target || picked.len() > most {
        picked = best_sum(groups, target, most)?;
    }
    let mut is_picked = vec![false; groups.len()];
    for index in picked {
        is_picked[index] = true;
    }
    let all = std::mem::take(groups).into_iter().zip(is_picked);
    let (taken, left): (Vec<_>, Vec<_>) = all.partition(|(_, is_picked)| *is_picked);
    *groups = left.into_iter().map(|(group, _)| group).collect();
    Some(taken.into_iter().map(|(group, _)| group).collect())
}

fn first_that_fit(groups: &[Group], target: usize) -> Vec<usize> {
    let mut room = target;
    let mut picked = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        if group.len() <= room {
            room -= group.len();
            picked.push(index);
        }
    }
    picked
}

/// How a sum was reached first.
#[derive(Clone, Copy)]
struct Step {
    /// By groups of this size,
    size: usize,
    /// so many of them,
    count: usize,
    /// and so many groups in all.
    groups: usize,
}

/// At most `most` groups whose sum is the closest to `target`.
///
/// Each sum is reached by the largest groups that reach it; another way with still fewer groups is
/// not looked for.
fn best_sum(groups: &[Group], target: usize, most: usize) -> Option<Vec<usize>> {
    let mut by_size: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, group) in groups.iter().enumerate() {
        by_size.entry(group.len()).or_default().push(index);
    }
    let smallest = *by_size.keys().next()?;
    // One group is better than none, and what overshoots by more than the target is worse.
    let limit = (2 * target).max(smallest);
    let mut steps: Vec<Option<Step>> = vec![None; limit + 1];
    steps[0] = Some(Step { size: 0, count: 0, groups: 0 });
    // The largest first, so that a sum is reached by few groups.
    for (&size, members) in by_size.iter().rev() {
        for sum in size..=limit {
            let Some(before) = steps[sum - size].filter(|_| steps[sum].is_none()) else {
                continue;
            };
            let count = if before.size == size { before.count + 1 } else { 1 };
            let step = Step { size, count, groups: before.groups + 1 };
            if count <= members.len() && step.groups <= most {
                steps[sum] = Some(step);
            }
        }
    }
    let mut sum =
        (1..=limit).filter(|sum| steps[*sum].is_some()).min_by_key(|sum| sum.abs_diff(target))?;
    let mut picked = Vec::new();
    while let Some(Step { size, count, .. }) = steps[sum].filter(|step| step.count > 0) {
        picked.extend_from_slice(&by_size[&size][..count]);
        sum -= size * count;
    }
    Some(picked)
}
