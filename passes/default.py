"""The order of the passes. A name may come again where a later pass makes new work for it."""

default = (
    "unroll_recurrent",  # first: the weights that it takes apart fold with the other constants
    "fold_constants",  # shape arithmetic and parameters that the exporter computes: everything below recognises constants
    "drop_identity",  # what does nothing would only stand between the patterns
    "canonicalize",  # one spelling, so that equal nodes look equal
    "merge_equal",  # before use counts matter: two readers of two equal nodes are two readers of one
    "simplify_movement",  # chains cost most when they are long; afterwards every transpose is a real one
    "slice_concat",  # after gathers became slices: what was put together and is taken apart again stands in the way of fusing
    "sink_transpose",  # before folding, which needs operators to stand next to each other
    "flatten_concat",  # after the transposes that stood between concats are gone
    "fold_pad",  # before batch norms, whose shift may not cross a padding: the pad that moves into a convolution makes that visible
    "crop_kernel",  # after pads are in their convolutions, where it looks for them, and before shifts that may not cross what is left
    "fold_batchnorm",  # before the affine forms: its parameters are named here and exact in double precision
    "expand_batchnorm",  # those that are left become pointwise, for the folding and fusing below
    "sink_transpose",  # what batch norms stopped goes on
    "sink_reshape",  # before folding, too: what is left of batch norms of split channels goes to the convolution above
    "simplify_movement",  # where transposes that sank have met reshapes
    "fold_channel_order",  # where transposes that sank have met the channels that pictures have in another order
    "fold_affine",  # before fusing: what is in the weights costs nothing, what is in an epilogue does
    "fuse_pointwise",  # whole regions, so that x * sigmoid(x) is one reader of x
    "canonicalize",  # regions joined bring operands that are there twice
    "fold_affine",  # regions joined may be affine as a whole
    "fuse_activation",  # before residuals: the operand that has its activation inside leaves fewer readers
    "fuse_residual",  # the last to fuse: what could not go anywhere else rides along
    "fold_constants",  # weights that were reshaped on the way
    "drop_identity",  # what folding left bare
    "merge_equal",  # weights that became equal
)
