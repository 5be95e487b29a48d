//! The paths of an image's inodes, and how names are shown.

use std::fmt::Write as _;

use crate::image::tree::{InodeId, Node, Tree};

/// By inode, the directory and the name under which it was met first.
#[derive(Debug)]
pub struct Names<'t> {
    first: Vec<Option<(InodeId, &'t [u8])>>,
}

impl<'t> Names<'t> {
    /// The names in a tree.
    #[must_use]
    pub fn of(tree: &'t Tree) -> Self {
        let mut first = vec![None; tree.inodes.len()];
        for (inode, id) in tree.inodes.iter().zip((0..).map(InodeId)) {
            let Node::Directory(directory) = &inode.node else { continue };
            for (name, child) in &directory.entries {
                if let Some(place @ None) = first.get_mut(child.0 as usize) {
                    *place = Some((id, name.as_slice()));
                }
            }
        }
        Self { first }
    }

    /// A path of an inode, from `/` on.
    #[must_use]
    pub fn path(&self, inode: InodeId) -> String {
        let mut parts = Vec::new();
        let mut at = inode;
        // The root is in no directory.
        while let Some((directory, name)) = self.first.get(at.0 as usize).copied().flatten() {
            parts.push(shown(name));
            at = directory;
        }
        parts.reverse();
        format!("/{}", parts.join("/"))
    }
}

/// Bytes as text. What a terminal could take for a command is escaped, as is what is no text.
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                character if character.is_control() => text.extend(character.escape_default()),
                character => text.push(character),
            }
        }
        // Writing to a String cannot fail.
        chunk.invalid().iter().for_each(|byte| _ = write!(text, "\\x{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_a_command_to_a_terminal() {
        assert_eq!(shown("gr\u{fc}n/\u{1b}[1m\\x41\n".as_bytes()), "gr\u{fc}n/\\u{1b}[1m\\\\x41\\n");
        assert_eq!(shown(b"a\xff\xfeb"), "a\\xff\\xfeb");
    }
}
