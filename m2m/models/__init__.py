"""Models: the networks and the objective of each family, or its fit, from its options.

The section of a family (`m2m.options.family.Family`) names its module of `m2m.models.families`. If
the family is trained in steps, the module has

- ``build_network(options, channels, prior, synthesis)``: the translator;
- ``build_objective(options, channels, encoder)``: the loss of the translator and its discriminators;

and if it is fitted in closed form,

- ``fit(options, subjects, spacing_mm, target)``: its arrays, from subjects whose target was measured
  (`subject_images.TrainingImages`), and the target's `Modality`;
- ``require_tensors(tensors, channels)``: raises ValueError where arrays, which may come from elsewhere, are not
  those of ``fit``;
- ``predict(tensors, subject)``: the prediction for a subject (`subject_images.SubjectImages`).
"""
