"""Plans: what each stage takes in memory, time and traffic, before it is begun."""
