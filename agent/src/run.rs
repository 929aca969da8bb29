//! Wires the stages, owns every task, stops them in the order of the flow.
