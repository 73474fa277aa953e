use std::path::{Path, PathBuf};

use meav_protocol::{
    Calibration, Dtype, JobId, LoadedModel, Method, OpenedRecipe, RecipeStamp, Scope, Setup,
    StampTerm, UserError, VectorInfo, VectorTerm,
};

use crate::action::KnobId;
use crate::form::Form;
use crate::settings::{KnobSettings, Preset, Settings, Slot, random_seed};

use super::scope::sound_scope;

/// How far a knob turns either way.
pub(crate) const COEFFICIENT_LIMIT: f64 = 1.5;

/// The share that TIES keeps, where nobody has said another: that of its paper.
pub(crate) const TIES_DENSITY: f64 = 0.2;

/// The share that DARE drops, where nobody has said another.
pub(crate) const DARE_DROP: f64 = 0.5;

/// One vector and its λ.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Knob {
    /// Its name.
    pub id: KnobId,
    /// The vector's file, or the name of one that comes with the demo.
    pub file: PathBuf,
    /// λ on each side.
    pub(crate) coefficients: [f64; 2],
    /// Whether it is left out, on each side.
    pub(crate) bypassed: [bool; 2],
    /// Where in the model it is added, on each side.
    pub(crate) scopes: [Scope; 2],
    /// What the engine knows of the vector, once it has read it.
    pub info: Option<VectorInfo>,
    /// Why the vector is not in the recipe.
    pub fault: Option<UserError>,
}

impl Knob {
    /// What to call it: the domain, or else the file's name.
    pub(crate) fn name(&self) -> String {
        match &self.info {
            Some(info) => info.domain.clone(),
            None => file_name(&self.file),
        }
    }

    /// Where its vector leads to which level, if that was measured.
    pub(crate) fn calibration(&self) -> Option<&Calibration> {
        self.info.as_ref()?.calibration.as_deref()
    }

    /// Whether its vector is in this file, by the name that the engine gave it or that it was
    /// opened by.
    pub(crate) fn is_of(&self, file: &Path) -> bool {
        self.file == file || self.info.as_ref().is_some_and(|info| info.file == file)
    }
}

/// A path's last part, without its ending.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// A path whose name is longer by an ending.
pub(crate) fn with_ending(path: PathBuf, ending: &str) -> PathBuf {
    let mut name = path.into_os_string();
    name.push(ending);
    name.into()
}

/// The model, the knobs, and what the engine's weights really hold.
#[derive(Debug)]
pub(crate) struct Weights {
    /// The model.
    pub(crate) model: PathBuf,
    /// What its weights are rounded to.
    pub(crate) dtype: Dtype,
    /// How the vectors are combined, on each side.
    pub(crate) methods: [Method; 2],
    /// From top to bottom, which is the order of the sum.
    pub(crate) knobs: Vec<Knob>,
    /// The side that is in use.
    pub(crate) slot: Slot,
    /// The knob whose vector the details show.
    pub(crate) selected: Option<KnobId>,
    /// What the engine's weights hold.
    pub(crate) held: Option<LoadedModel>,
    /// What they hold, in terms of knobs.
    held_setup: Option<Setup>,
    /// Why the engine could not do what the knobs say, where that is no single vector's fault.
    pub(crate) error: Option<UserError>,
    /// Whether the engine that runs has ever got them there.
    pub(crate) has_been_ready: bool,
    /// The job that moves the weights.
    pub(crate) in_flight: Option<JobId>,
    /// The setup of the last such job that came to an end, however it ended: it is not tried again
    /// unless something changes.
    settled: Option<Setup>,
    last_id: u64,
}

impl Weights {
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut weights = Self {
            model: settings.model.clone(),
            dtype: settings.dtype,
            methods: settings.methods.map(sound_method),
            knobs: Vec::new(),
            slot: settings.slot,
            selected: None,
            held: None,
            held_setup: None,
            error: None,
            has_been_ready: true,
            in_flight: None,
            settled: None,
            last_id: 0,
        };
        for kept in &settings.knobs {
            let id = weights.push(kept.file.clone());
            if let Some(knob) = weights.knob_mut(id) {
                knob.coefficients = kept.coefficients.map(limited);
                knob.bypassed = kept.bypassed;
                knob.scopes = kept.scopes.clone().map(sound_scope);
            }
        }
        weights.selected = weights.knobs.first().map(|knob| knob.id);
        weights
    }

    /// As it is kept.
    pub(crate) fn knob_settings(&self) -> Vec<KnobSettings> {
        let kept = |knob: &Knob| KnobSettings {
            file: knob.file.clone(),
            coefficients: knob.coefficients,
            bypassed: knob.bypassed,
            scopes: knob.scopes.clone(),
        };
        self.knobs.iter().map(kept).collect()
    }

    /// Puts a vector on a new knob at 0, or finds the knob that has it.
    pub(crate) fn add(&mut self, file: PathBuf) -> KnobId {
        self.find(&file).unwrap_or_else(|| self.push(file))
    }

    /// A knob that has the vector, and is none of these: a recipe may have one vector twice, each
    /// time for other layers.
    fn other_than(&mut self, taken: &[KnobId], file: &Path) -> KnobId {
        let is_it = |knob: &&Knob| !taken.contains(&knob.id) && knob.is_of(file);
        let known = self.knobs.iter().find(is_it).map(|knob| knob.id);
        known.unwrap_or_else(|| self.push(file.to_owned()))
    }

    fn push(&mut self, file: PathBuf) -> KnobId {
        self.last_id += 1;
        let id = KnobId(self.last_id);
        let (coefficients, bypassed, scopes) = ([0.0; 2], [false; 2], Default::default());
        let (info, fault) = (None, None);
        self.knobs.push(Knob { id, file, coefficients, bypassed, scopes, info, fault });
        id
    }

    /// The knob of a vector, by its file.
    pub(crate) fn find(&self, file: &Path) -> Option<KnobId> {
        self.knobs.iter().find(|knob| knob.is_of(file)).map(|knob| knob.id)
    }

    /// The decoder layers of the model, once it has been loaded.
    pub(crate) fn n_layers(&self) -> Option<usize> {
        let held = self.held.as_ref().zip(self.held_setup.as_ref());
        held.filter(|(_, setup)| setup.model == self.model).map(|(loaded, _)| loaded.layers)
    }

    pub(crate) fn knob(&self, id: KnobId) -> Option<&Knob> {
        self.knobs.iter().find(|knob| knob.id == id)
    }

    pub(crate) fn knob_mut(&mut self, id: KnobId) -> Option<&mut Knob> {
        self.knobs.iter_mut().find(|knob| knob.id == id)
    }

    pub(crate) fn set(&mut self, id: KnobId, coefficient: f64) {
        let side = self.slot.index();
        if let Some(knob) = self.knob_mut(id) {
            knob.coefficients[side] = limited(coefficient);
        }
    }

    pub(crate) fn set_bypassed(&mut self, id: KnobId, is_bypassed: bool) {
        let side = self.slot.index();
        if let Some(knob) = self.knob_mut(id) {
            knob.bypassed[side] = is_bypassed;
        }
    }

    /// How the vectors of this side are combined.
    pub(crate) fn method(&self) -> Method {
        self.methods[self.slot.index()]
    }

    pub(crate) fn set_method(&mut self, method: Method) {
        self.methods[self.slot.index()] = sound_method(method);
    }

    /// Has DARE drop other elements, where it is DARE.
    pub(crate) fn new_seed(&mut self) {
        if let Method::Dare { seed, .. } = &mut self.methods[self.slot.index()] {
            *seed = random_seed();
        }
    }

    /// Where the vector of a knob is added on this side.
    pub(crate) fn scope<'a>(&self, knob: &'a Knob) -> &'a Scope {
        &knob.scopes[self.slot.index()]
    }

    pub(crate) fn set_scope(&mut self, id: KnobId, scope: Scope) {
        let side = self.slot.index();
        if let Some(knob) = self.knob_mut(id) {
            knob.scopes[side] = sound_scope(scope);
        }
    }

    /// What to call a knob where several are listed: with the file's name if another is called the
    /// same.
    pub(crate) fn name_among(&self, knob: &Knob) -> String {
        let name = knob.name();
        let is_twin = |other: &&Knob| other.id != knob.id && other.name() == name;
        if self.knobs.iter().any(|other| is_twin(&other)) {
            format!("{name} ({})", file_name(&knob.file))
        } else {
            name
        }
    }

    /// What is still wanted before a form can begin; `None` if nothing is.
    pub(crate) fn missing_for(&self, form: &Form) -> Option<&'static str> {
        form.missing(|id| self.knob(id).is_some())
    }

    /// Puts another vector on a knob, at the same λ.
    pub(crate) fn replace(&mut self, id: KnobId, file: PathBuf) {
        if let Some(knob) = self.knob_mut(id) {
            (knob.file, knob.info, knob.fault) = (file, None, None);
        }
    }

    pub(crate) fn remove(&mut self, id: KnobId) {
        self.knobs.retain(|knob| knob.id != id);
        if self.selected == Some(id) {
            self.selected = self.knobs.first().map(|knob| knob.id);
        }
    }

    /// Moves a knob by so many places, as far as there are any.
    pub(crate) fn shift(&mut self, id: KnobId, by: isize) {
        if let Some(from) = self.knobs.iter().position(|knob| knob.id == id) {
            let to = from.saturating_add_signed(by).min(self.knobs.len() - 1);
            let knob = self.knobs.remove(from);
            self.knobs.insert(to, knob);
        }
    }

    /// All λ of this side to 0, none left out.
    pub(crate) fn reset(&mut self) {
        let side = self.slot.index();
        for knob in &mut self.knobs {
            knob.coefficients[side] = 0.0;
            knob.bypassed[side] = false;
        }
    }

    /// Makes the other side what this one is.
    pub(crate) fn copy_slot(&mut self) {
        let (from, to) = (self.slot.index(), self.slot.other().index());
        for knob in &mut self.knobs {
            knob.coefficients[to] = knob.coefficients[from];
            knob.bypassed[to] = knob.bypassed[from];
            knob.scopes[to] = knob.scopes[from].clone();
        }
        self.methods[to] = self.methods[from];
    }

    /// The knobs of this side that are in the recipe with λ other than 0, as a preset.
    pub(crate) fn preset(&self, name: String) -> Preset {
        let side = self.slot.index();
        let is_active = |knob: &&Knob| !knob.bypassed[side] && knob.coefficients[side] != 0.0;
        let active = || self.knobs.iter().filter(is_active);
        Preset {
            name,
            terms: active().map(|knob| (knob.file.clone(), knob.coefficients[side])).collect(),
            method: self.method(),
            scopes: active().map(|knob| knob.scopes[side].clone()).collect(),
        }
    }

    /// Sets the knobs to a preset, in its order; knobs that it does not name go to 0.
    pub(crate) fn apply_preset(&mut self, preset: &Preset) {
        self.reset();
        self.set_method(preset.method);
        let mut set = Vec::new();
        for (index, (file, coefficient)) in preset.terms.iter().enumerate() {
            let id = self.other_than(&set, file);
            self.set(id, *coefficient);
            self.set_scope(id, preset.scope(index));
            set.push(id);
        }
        self.bring_first(&set);
    }

    /// Sets the knobs to a recipe, in its order; vectors that are on none get one.
    pub(crate) fn apply_recipe(&mut self, recipe: &RecipeStamp) {
        self.reset();
        self.dtype = recipe.dtype;
        self.set_method(recipe.method);
        let mut set: Vec<KnobId> = Vec::new();
        for term in &recipe.vectors {
            let is_it = |knob: &&Knob| !set.contains(&knob.id) && holds(knob, term);
            let known = self.knobs.iter().find(is_it).map(|knob| knob.id);
            let id = known.unwrap_or_else(|| self.other_than(&set, &term.file));
            self.set(id, term.coefficient);
            self.set_scope(id, term.scope.clone());
            set.push(id);
        }
        self.bring_first(&set);
    }

    /// Sets model, dtype, method and knobs to a recipe that was read from a file, in its order.
    /// Without a model, the one that is here stays.
    pub(crate) fn apply_opened(&mut self, recipe: &OpenedRecipe) {
        self.reset();
        if let Some(model) = &recipe.model {
            self.set_model(model.clone());
        }
        self.dtype = recipe.dtype;
        self.set_method(recipe.method);
        let mut set: Vec<KnobId> = Vec::new();
        for term in &recipe.vectors {
            let id = self.other_than(&set, &term.file);
            self.set(id, term.coefficient);
            self.set_scope(id, term.scope.clone());
            if let Some(knob) = self.knob_mut(id) {
                knob.fault = None;
            }
            set.push(id);
        }
        self.selected = set.first().copied().or(self.selected);
        self.bring_first(&set);
    }

    /// The order of the sum is part of a recipe.
    fn bring_first(&mut self, first: &[KnobId]) {
        let place = |knob: &Knob| first.iter().position(|id| *id == knob.id);
        self.knobs.sort_by_key(|knob| place(knob).unwrap_or(first.len()));
    }

    /// What the knobs say, and the knob of each vector.
    pub(crate) fn wanted(&self) -> (Setup, Vec<KnobId>) {
        let side = self.slot.index();
        let sound = || self.knobs.iter().filter(|knob| knob.fault.is_none());
        let term = |knob: &Knob| {
            let coefficient = if knob.bypassed[side] { 0.0 } else { knob.coefficients[side] };
            let scope = knob.scopes[side].clone();
            VectorTerm { file: knob.file.clone(), coefficient, scope }
        };
        let setup = Setup {
            model: self.model.clone(),
            dtype: self.dtype,
            method: self.method(),
            vectors: sound().map(term).collect(),
        };
        (setup, sound().map(|knob| knob.id).collect())
    }

    /// Whether the weights hold what the knobs say.
    pub(crate) fn is_held(&self) -> bool {
        self.held_setup.as_ref().is_some_and(|held| *held == self.wanted().0)
    }

    /// What the engine is to be asked for now: nothing while it is at it, or where the last try
    /// came to an end.
    pub(crate) fn unsettled(&self) -> Option<(Setup, Vec<KnobId>)> {
        if self.in_flight.is_some() {
            return None;
        }
        let (setup, knobs) = self.wanted();
        (self.settled.as_ref() != Some(&setup)).then_some((setup, knobs))
    }

    /// The engine's weights hold `setup` now.
    pub(crate) fn hold(&mut self, setup: &Setup, knobs: &[KnobId], loaded: LoadedModel) {
        for (id, info) in knobs.iter().zip(&loaded.vectors) {
            if let Some(knob) = self.knob_mut(*id) {
                knob.info = Some(info.clone());
            }
        }
        self.has_been_ready = true;
        self.held = Some(loaded);
        self.held_setup = Some(setup.clone());
        self.settled = Some(setup.clone());
        self.error = None;
    }

    /// The engine could not do `setup`: a vector is set aside where it is that vector's fault.
    pub(crate) fn refuse(&mut self, setup: &Setup, knobs: &[KnobId], err: UserError) {
        let at_fault = setup
            .vectors
            .iter()
            .zip(knobs)
            .find(|(term, _)| err.about.as_ref() == Some(&term.file))
            .map(|(_, id)| *id);
        self.settled = Some(setup.clone());
        match at_fault.and_then(|id| self.knob_mut(id)) {
            // It may have got another vector meanwhile.
            Some(knob) if err.about.as_ref() != Some(&knob.file) => {}
            Some(knob) => knob.fault = Some(err),
            None => self.error = Some(err),
        }
    }

    /// The job for `setup` has come to its end.
    pub(crate) fn settle(&mut self, setup: Setup) {
        self.settled = Some(setup);
    }

    /// Someone ended the job: what the weights hold stays, until something changes from now on.
    pub(crate) fn leave(&mut self) {
        self.settled = Some(self.wanted().0);
    }

    /// The engine holds nothing any more.
    pub(crate) fn forget_held(&mut self) {
        self.held = None;
        self.held_setup = None;
    }

    /// Tries again what came to an end without success.
    pub(crate) fn retry(&mut self) {
        self.settled = None;
        self.error = None;
    }

    /// Another model: what was wrong with vectors may be right for it.
    pub(crate) fn set_model(&mut self, model: PathBuf) {
        self.model = model;
        for knob in &mut self.knobs {
            knob.fault = None;
        }
        self.retry();
    }
}

/// Whether a knob has the vector of a recipe's term; told by the file until it has been read.
fn holds(knob: &Knob, term: &StampTerm) -> bool {
    match &knob.info {
        Some(info) => info.fingerprint == term.fingerprint,
        None => knob.file == term.file || Some(knob.file.as_os_str()) == term.file.file_stem(),
    }
}

/// What the engine would take: a share that is none becomes that of a first choice.
fn sound_method(method: Method) -> Method {
    match method {
        Method::Ties { density } if !(density > 0.0 && density <= 1.0) => {
            Method::Ties { density: TIES_DENSITY }
        }
        Method::Dare { drop, seed } if !(0.0..1.0).contains(&drop) => {
            Method::Dare { drop: DARE_DROP, seed }
        }
        method => method,
    }
}

/// Within the range of a knob; what is no number is 0.
fn limited(coefficient: f64) -> f64 {
    if coefficient.is_finite() {
        coefficient.clamp(-COEFFICIENT_LIMIT, COEFFICIENT_LIMIT)
    } else {
        0.0
    }
}
