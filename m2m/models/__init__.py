"""Models: what makes a family's networks and objective, or fits it, from its section's options.

A module of `m2m.models.families` is named by its section (`m2m.options.family.Family`) and has,
where the family is trained in steps,

- ``build_network(options, channels, prior, synthesis)``: the translator;
- ``build_objective(options, channels, encoder)``: what it and its discriminators minimise;

and where it is fitted at once,

- ``fit(people, spacing_mm)``: its arrays, from people whose target is known (`seen.Known`);
- ``predict(tensors, person)``: the prediction for a person (`seen.Seen`).
"""
