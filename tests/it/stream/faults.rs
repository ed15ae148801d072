//! Streams whose client hangs up, whose service stops, or whose database dies.
