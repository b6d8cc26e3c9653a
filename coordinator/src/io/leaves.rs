//! Leaves on their way to a witness: runs that fit a frame.

use leben_protocol::limits::FRAME_BYTES_MAX;

/// Cuts leaves into runs that fit a frame, with room for the frame's own fields.
pub(super) fn frames(leaves: Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
    let mut runs = Vec::new();
    let (mut run, mut bytes) = (Vec::new(), 0);
    for leaf in leaves {
        if bytes + leaf.len() > FRAME_BYTES_MAX / 2 {
            runs.push(std::mem::take(&mut run));
            bytes = 0;
        }
        bytes += leaf.len();
        run.push(leaf);
    }
    runs.push(run);
    runs.retain(|run| !run.is_empty());
    runs
}
