use std::{borrow::Cow, marker::PhantomData};

use bytes::Bytes;
use difuse_types::WallTime;

use crate::{CommandError, State, Structure};

/// What a key holds.
#[derive(Clone, Copy, Debug)]
pub enum Held<'a> {
    /// A string that lives in the log.
    String(&'a Bytes),
    /// A string that lives in blocks.
    Blocks,
    /// A structure.
    Structure(&'a dyn State),
}

/// A key as a command sees it: what has expired is not there.
#[derive(Clone, Copy, Debug, Default)]
pub struct View<'a> {
    /// What the key holds; `None` if it does not exist.
    pub held: Option<Held<'a>>,
    /// When it will expire.
    pub deadline: Option<WallTime>,
}

impl<'a> View<'a> {
    /// Whether the key exists.
    pub fn exists(&self) -> bool {
        self.held.is_some()
    }

    /// The string that the key holds; `None` if it does not exist.
    ///
    /// # Errors
    /// [`CommandError::WrongType`] if it holds a structure, [`CommandError::InBlocks`] if the string lives in blocks.
    pub fn string(&self) -> Result<Option<&'a Bytes>, CommandError> {
        match self.held {
            None => Ok(None),
            Some(Held::String(bytes)) => Ok(Some(bytes)),
            Some(Held::Blocks) => Err(CommandError::InBlocks),
            Some(Held::Structure(_)) => Err(CommandError::WrongType),
        }
    }

    /// The length of the string that the key holds, wherever it lives; 0 if the key does not exist.
    ///
    /// # Errors
    /// [`CommandError::WrongType`] if it holds a structure.
    pub fn string_length(&self) -> Result<u64, CommandError> {
        match self.held {
            None => Ok(0),
            Some(Held::String(bytes)) => Ok(bytes.len() as u64),
            Some(Held::Blocks) => Err(CommandError::InBlocks),
            Some(Held::Structure(_)) => Err(CommandError::WrongType),
        }
    }

    /// The structure that the key holds; `None` if it does not exist.
    ///
    /// # Errors
    /// [`CommandError::WrongType`] if it holds a string or another structure.
    pub fn structure<S: Structure>(&self) -> Result<Option<&'a S>, CommandError> {
        match self.held {
            None => Ok(None),
            Some(Held::Structure(state)) => state.as_any().downcast_ref().map(Some).ok_or(CommandError::WrongType),
            Some(_) => Err(CommandError::WrongType),
        }
    }
}

/// A key as a command on one structure sees it. Its state is asked for where Redis looks the key up: whether a client
/// hears of a wrong argument or of a wrong kind of key first is a matter of each command.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a, S> {
    view: View<'a>,
    structure: PhantomData<S>,
}

impl<'a, S: Structure> Key<'a, S> {
    /// The key as any command sees it.
    pub(crate) fn new(view: &View<'a>) -> Self {
        Self { view: *view, structure: PhantomData }
    }

    /// The state; `None` if the key does not exist.
    ///
    /// # Errors
    /// [`CommandError::WrongType`] if the key holds something else.
    pub fn find(&self) -> Result<Option<&'a S>, CommandError> {
        self.view.structure()
    }

    /// The state; the default one if the key does not exist.
    ///
    /// # Errors
    /// [`CommandError::WrongType`] if the key holds something else.
    pub fn state(&self) -> Result<Cow<'a, S>, CommandError> {
        Ok(self.find()?.map_or_else(|| Cow::Owned(S::default()), Cow::Borrowed))
    }
}
