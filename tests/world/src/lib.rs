//! A software company's customers, orders and traffic, made up: the world of the demo and of the tests.
