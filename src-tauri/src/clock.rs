use std::time::Instant;

/// The time of the window in seconds, also while it is hidden: then egui's own stands still.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    last_frame: f64,
    seen: Instant,
}

impl Clock {
    /// Starts at 0, as egui's does.
    pub(crate) fn start() -> Self {
        Self { last_frame: 0.0, seen: Instant::now() }
    }

    /// The time, given that of egui's last frame. It never goes back: a frame is seen just after
    /// it has begun.
    pub(crate) fn now(&mut self, frame: f64) -> f64 {
        if frame > self.last_frame {
            *self = Self { last_frame: frame, seen: Instant::now() };
        }
        self.last_frame + self.seen.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_between_frames() {
        let mut clock = Clock::start();
        assert!(clock.now(3.0) >= 3.0);
        let hidden = clock.now(3.0);
        assert!(clock.now(3.0) > hidden);
        assert!(clock.now(4.0) >= 4.0);
    }
}
