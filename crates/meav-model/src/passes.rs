use std::mem;
use std::ops::Range;

/// Tokens that continue those of another node of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// What it continues; stands before it in the list.
    pub(crate) parent: Option<usize>,
    pub(crate) len: usize,
}

/// Tokens that go through the layers together.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    /// Where the first lies in the cache; the others follow.
    pub(crate) start: usize,
    pub(crate) pieces: Vec<Piece>,
}

/// A run of a node's tokens.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) node: usize,
    /// Which of the node's tokens.
    pub(crate) tokens: Range<usize>,
    /// Where in the cache all that it continues lies, first to last.
    pub(crate) before: Vec<Range<usize>>,
}

impl Pass {
    pub(crate) fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.tokens.len()).sum()
    }

    /// The place in the cache behind its last token.
    pub(crate) fn end(&self) -> usize {
        self.start + self.len()
    }
}

/// Cuts a forest, listed depth first, into passes of up to `limit` tokens, each token in one.
///
/// A node begins a pass if the one before has no room for it and all that continues it. What is
/// read overwrites what nobody continues any more, so that however long the list is, the cache
/// holds no more than the longest path and a pass.
pub(crate) fn passes(nodes: &[Node], limit: usize) -> Vec<Pass> {
    let sizes = sizes(nodes);
    let mut passes = Vec::new();
    let mut pass = Pass::default();
    // Where each node and all that it continues lie.
    let mut paths: Vec<Vec<Range<usize>>> = Vec::with_capacity(nodes.len());
    for (node, Node { parent, len }) in nodes.iter().enumerate() {
        let mut path = parent.map_or_else(Vec::new, |parent| paths[parent].clone());
        for from in (0..*len).step_by(limit) {
            if pass.len() > 0 && pass.len() + sizes[node] - from > limit {
                // Only this path is still needed: what follows in the list continues it.
                let start = path.last().map_or(0, |range| range.end);
                passes.push(mem::replace(&mut pass, Pass { start, pieces: Vec::new() }));
            }
            let tokens = from..*len.min(&(from + limit));
            let place = pass.end()..pass.end() + tokens.len();
            pass.pieces.push(Piece { node, tokens, before: path.clone() });
            path.push(place);
        }
        paths.push(path);
    }
    passes.extend((pass.len() > 0).then_some(pass));
    passes
}

/// The tokens of each node and all that continues it.
fn sizes(nodes: &[Node]) -> Vec<usize> {
    let mut sizes: Vec<usize> = nodes.iter().map(|node| node.len).collect();
    for (node, Node { parent, .. }) in nodes.iter().enumerate().rev() {
        if let Some(parent) = parent {
            sizes[*parent] += sizes[node];
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root of `root` tokens, prompts behind it, and responses behind each.
    fn forest(root: usize, prompts: &[(usize, &[usize])]) -> Vec<Node> {
        let mut nodes = vec![Node { parent: None, len: root }];
        for (prompt, responses) in prompts {
            let parent = Some(nodes.len());
            nodes.push(Node { parent: Some(0), len: *prompt });
            nodes.extend(responses.iter().map(|len| Node { parent, len: *len }));
        }
        nodes
    }

    /// The tokens in front of one, as `(node, index)`.
    fn path(nodes: &[Node], node: usize, index: usize) -> Vec<(usize, usize)> {
        let above = nodes[node].parent.map(|it| path(nodes, it, nodes[it].len)).unwrap_or_default();
        above.into_iter().chain((0..index).map(|index| (node, index))).collect()
    }

    /// Reads all passes into a cache that holds tokens, and returns its size.
    fn read(nodes: &[Node], limit: usize) -> usize {
        let mut cache = Vec::new();
        let mut n_read = vec![0; nodes.len()];
        for pass in passes(nodes, limit) {
            assert!((1..=limit).contains(&pass.len()));
            cache.resize(cache.len().max(pass.end()), (usize::MAX, 0));
            let mut at = pass.start;
            for piece in &pass.pieces {
                assert_eq!(piece.tokens.start, n_read[piece.node]);
                n_read[piece.node] = piece.tokens.end;
                for index in piece.tokens.clone() {
                    cache[at] = (piece.node, index);
                    at += 1;
                }
            }
            for Piece { node, tokens, before } in pass.pieces {
                let found: Vec<_> = before.into_iter().flat_map(|it| cache[it].to_vec()).collect();
                assert_eq!(found, path(nodes, node, tokens.start));
            }
        }
        assert_eq!(n_read, nodes.iter().map(|node| node.len).collect::<Vec<_>>());
        cache.len()
    }

    #[test]
    fn each_piece_finds_what_it_continues() {
        let many = vec![7; 100];
        let forests = [
            forest(5, &[(3, &[4, 2]), (1, &[]), (6, &[0, 1, 9]), (0, &[3])]),
            forest(0, &[(3, &[4, 2]), (6, &[1])]),
            forest(25, &[(31, &[40, 2, 55]), (6, &[1, 1, 1])]),
            forest(5, &[(12, &many), (3, &many)]),
            forest(0, &[]),
        ];
        for nodes in &forests {
            for limit in [1, 2, 3, 7, 10, 16, 1000] {
                read(nodes, limit);
            }
        }
    }

    #[test]
    fn nodes_that_fit_are_read_whole_and_together() {
        let nodes = forest(2, &[(1, &[1, 1]), (1, &[3, 2]), (3, &[8, 25]), (1, &[1])]);
        let found: Vec<Vec<usize>> = passes(&nodes, 10)
            .iter()
            .map(|pass| pass.pieces.iter().map(|piece| piece.tokens.len()).collect())
            .collect();
        let expected: [&[usize]; 7] =
            [&[2, 1, 1, 1], &[1, 3, 2], &[3], &[8], &[10], &[10], &[5, 1, 1]];
        assert_eq!(found, expected);
    }

    #[test]
    fn cache_does_not_grow_with_the_list() {
        let (prompt, limit) = (30, 64);
        for response in [1, 20, 63, 64, 65, 150] {
            let responses = vec![response; 50];
            let prompts = vec![(prompt, &responses[..]); 20];
            let size = read(&forest(10, &prompts), limit);
            let longest = 10 + prompt + response;
            assert!(size <= longest + limit, "{response}: {size}");
        }
    }
}
