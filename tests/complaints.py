"""Public complaints about other libraries that were replayed here, and the tests of each answer.

Each case is a kind of fault: a wrong number and no word (A), or an error that does not say what to
do (B). `test_complaints.py` checks that each has a test.
"""

from typing import NamedTuple


class Complaint(NamedTuple):
    """A kind of fault.

    Attributes:
      kind: what was wrong.
      seen: where the symptom was first seen in public, if anywhere.
      tests: those that hold what is right, `room/test_file.py::test_name`.
    """

    kind: str
    seen: str
    tests: tuple[str, ...]


COMPLAINTS = {
    "A1": Complaint(
        "weight 0 shields values, and not gradients",
        "focal_loss_torch#16, pytorch#73205",
        (
            "objectives/test_shield_law.py::test_weight_0_shields_values_and_gradients",
            "objectives/test_shield_law.py::test_the_gradient_is_that_of_the_batch_without_the_"
            "example",
            "objectives/test_shield_law.py::test_a_learner_shields_losses_made_by_hand",
            "objectives/test_shield_law.py::test_metrics_are_shielded",
        ),
    ),
    "A2": Complaint(
        "reserved names of metrics are taken in silence",
        "keras#2842",
        (
            "objectives/test_objectives.py::test_a_metric_may_not_take_the_name_of_another",
            "learning/test_learning.py::test_the_names_of_the_learners_own_metrics_are_reserved",
            "data/test_doors.py::test_reserved_fields_are_refused",
        ),
    ),
    "A3": Complaint(
        "the direction of a metric is guessed from its name",
        "keras#18798",
        (
            "driver/test_directions.py::test_the_best_is_that_of_the_metric_s_own_direction",
            "driver/test_directions.py::test_a_metric_without_a_direction_is_asked_for_one",
            "driver/test_directions.py::test_the_metrics_of_an_objective_say_it_too",
            "driver/test_directions.py::test_a_selection_asks_the_metric_too",
            "report/test_report_numbers.py::test_a_sweep_is_ranked_by_the_direction_of_its_metric_"
            "and_not_by_its_name",
        ),
    ),
    "A4": Complaint(
        "a best state that never happened",
        "keras#13658",
        (
            "driver/test_directions.py::test_a_watched_metric_that_never_is_a_number_leaves_the_"
            "last_state",
            "driver/test_directions.py::test_the_first_number_is_the_best_after_evaluations_"
            "without_one",
            "driver/test_directions.py::test_a_member_that_stops_before_the_first_evaluation_has_"
            "no_value",
        ),
    ),
    "A5": Complaint(
        "the mask of a masked array is dropped",
        "jax#13795",
        (
            "data/test_doors.py::test_masked_values_are_refused",
            "data/test_doors.py::test_masked_labels_and_lists_of_masked_values_are_refused",
        ),
    ),
    "A6": Complaint(
        "weights that are negative or not finite",
        "scikit-learn#9674",
        (
            "data/test_doors.py::test_weights_below_0_and_weights_that_are_none_are_refused",
            "driver/test_directions.py::test_a_loss_diverges_by_the_value_that_is_reported",
        ),
    ),
    "A7": Complaint(
        "long sums in float32",
        "numpy#22956",
        (
            "loop/test_exact_sums.py::test_an_evaluation_counts_past_what_float32_counts",
            "loop/test_exact_sums.py::test_the_window_of_training_counts_on",
            "loop/test_exact_sums.py::test_merging_is_addition_without_rounding",
        ),
    ),
    "A8": Complaint(
        "a reader of a checkpoint does not ask which parameters predict",
        "lightning#20545",
        (
            "runs/test_load.py::test_the_parameters_are_those_that_the_run_predicts_with",
            "runs/test_load.py::test_an_average_starts_another_run_as_it_was_evaluated",
            "exporting/test_runs.py::test_transforms_of_learners",
        ),
    ),
    "A9": Complaint(
        "whole numbers that a float32 cannot hold",
        "pytorch#34758",
        (
            "data/test_doors.py::test_whole_numbers_that_float32_cannot_hold_are_refused",
            "data/test_doors.py::test_a_column_of_stamps_is_refused_by_name",
            "tables/test_columns.py::test_stamps_that_differ_stay_different",
        ),
    ),
    "A10": Complaint(
        "a table is read by a guess",
        "pytorch/tutorials#1708",
        (
            "data/test_doors.py::test_a_header_of_numbers_is_an_example",
            "data/test_doors.py::test_a_table_without_a_header_and_its_errors",
            "reading/test_read_table.py::test_a_header_is_not_guessed",
            "tables/test_reading.py::test_numbers_that_can_be_read_in_two_ways_are_refused",
        ),
    ),
    "A11": Complaint(
        "broadcasting mixes examples",
        "",
        (
            "objectives/test_example_law.py::test_the_law_holds_for_every_objective",
            "objectives/test_example_law.py::test_a_loss_that_mixes_examples_is_refused",
            "objectives/test_example_law.py::test_a_metric_that_mixes_examples_is_refused",
            "objectives/test_objectives.py::test_labels_without_an_axis_do_for_one_output",
        ),
    ),
    "A12": Complaint(
        "a network whose `apply` was replaced is undone",
        "",
        (
            "network/test_wrapper_law.py::test_a_transform_computes_with_what_was_replaced",
            "network/test_wrapper_law.py::test_a_pair_of_transforms_computes_with_what_was_replaced",
            "network/test_wrapper_law.py::test_a_recording_has_the_outputs_of_the_replacement",
            "network/test_wrapper_law.py::test_generate_draws_from_the_replacement",
        ),
    ),
    "A13": Complaint(
        "a learner whose functions were wrapped is undone",
        "",
        (
            "learning/test_wrapper_law.py::test_transforms_compute_with_what_was_replaced",
            "learning/test_wrapper_law.py::test_every_option_of_fit_computes_with_what_was_replaced",
            "learning/test_wrapper_law.py::test_what_a_transform_cannot_use_is_refused_by_name",
        ),
    ),
    "A20": Complaint(
        "what a run needs to predict is not in the run",
        "",
        (
            "runs/test_prediction.py::test_statistics_are_those_of_the_training",
            "runs/test_prediction.py::test_a_network_is_compared_with_the_one_that_was_trained",
            "runs/test_prediction.py::test_a_run_predicts_in_a_fresh_process",
        ),
    ),
    "A21": Complaint(
        "a path that begins with `~`",
        "lightning#19059",
        (
            "runs/test_home.py::test_a_run_is_written_there",
            "runs/test_home.py::test_the_command_line_reads_it",
            "runs/test_home.py::test_predictions_and_models_are_written_there",
            "runs/test_home.py::test_data_are_read_from_there",
        ),
    ),
    "A22": Complaint(
        "pages and tables show the last state, predictions are of the best",
        "",
        (
            "report/test_report_numbers.py::test_the_result_of_a_run_that_stopped_early_is_its_"
            "best_state",
            "report/test_report_numbers.py::test_everything_that_shows_a_run_shows_its_best_state",
            "report/test_report_numbers.py::test_a_sweep_ranks_and_shows_the_best_states",
        ),
    ),
    "B1": Complaint(
        "placeholders that are NaN or infinite inside a program",
        "jax#5698",
        (
            "runs/test_debug_modes.py::test_a_training_runs_in_every_mode",
            "runs/test_debug_modes.py::test_a_metric_may_be_undefined_where_numbers_have_to_be_finite",
        ),
    ),
    "B2": Complaint(
        "plain numbers where arrays are expected, without jit",
        "jax-md#212",
        (
            "runs/test_debug_modes.py::test_a_training_runs_in_every_mode",
            "runs/test_debug_modes.py::test_a_batch_is_that_of_a_step_given_as_a_plain_number",
        ),
    ),
    "B3": Complaint(
        "a Python number beside an int32 in an index, in 64 bits",
        "flax#924",
        (
            "runs/test_debug_modes.py::test_text_is_generated_in_every_mode",
            "runs/test_debug_modes.py::test_a_training_runs_in_every_mode",
        ),
    ),
    "B4": Complaint(
        "letters that the terminal lacks",
        "keras#19386",
        (
            "progress/test_progress.py::test_any_encoding_can_show_it",
            "progress/test_progress.py::test_letters_that_an_encoding_lacks_are_replaced",
            "progress/test_progress.py::test_a_training_is_shown_in_a_terminal_of_any_encoding",
        ),
    ),
    "B5": Complaint(
        "other byte orders and long doubles",
        "xarray#489",
        ("data/test_doors.py::test_other_byte_orders_and_long_doubles_are_converted",),
    ),
    "B6": Complaint(
        "trees of arrays pass one door and not another",
        "keras#17319",
        (
            "data/test_doors.py::test_every_tree_is_read",
            "data/test_doors.py::test_a_split_of_trees_keeps_examples_together",
        ),
    ),
    "B11": Complaint(
        "tables with text, dates, missing values, other delimiters, parquet",
        "",
        (
            "reading/test_read_table.py::test_delimiters_are_detected_and_said",
            "reading/test_read_table.py::test_parquet_arrow_and_feather",
            "tables/test_columns.py::test_numbers_are_those_of_scikit_learn",
            "tables/test_columns.py::test_categories_are_those_of_scikit_learn",
            "tables/test_columns.py::test_tasks_follow_from_the_labels",
            "runs/test_rows.py::test_a_run_predicts_the_rows_of_a_table",
        ),
    ),
    "B12": Complaint(
        "padding changes what a sequence gives",
        "pytorch#517",
        (
            "network/test_masked.py::test_a_known_case_of_other_libraries",
            "network/test_masked.py::test_a_padded_sequence_gives_what_it_gives_alone",
            "network/test_mask_law.py::test_a_padded_sequence_gives_what_it_gives_alone_or_an_error",
            "objectives/test_mask_law.py::test_places_count_as_so_many_examples",
            "learning/test_masked.py::test_a_padded_batch_learns_what_its_sequences_teach",
        ),
    ),
    "B16": Complaint(
        "a run in the middle of its steps is said to be done",
        "",
        ("driver/test_train.py::test_the_status_of_a_report_is_that_of_its_moment",),
    ),
    "B17": Complaint(
        "an error of a full disk that does not say what to do",
        "",
        (
            "storage/test_full_disk.py::test_a_save_that_fails_is_reported_and_training_continues",
            "storage/test_full_disk.py::test_a_row_that_is_refused_is_written_with_the_next_one",
            "storage/test_disk.py::test_on_a_disk_that_is_full_nothing_is_lost",
        ),
    ),
    "B18": Complaint(
        "recording takes longer than training",
        "",
        (
            "observing/test_recording_wide.py::test_the_confusion_of_many_classes_is_left_out",
            "observing/test_recording.py::test_looking_costs_a_small_share_however_short_or_large_"
            "the_training",
        ),
    ),
    "B19": Complaint(
        "rates and times that do not add up",
        "",
        (
            "progress/test_progress.py::test_the_rate_is_that_of_recent_chunks_and_without_"
            "compiling",
            "driver/test_speed.py::test_the_pace_is_that_since_the_last_compilation",
            "report/test_report_numbers.py::test_times_add_up",
        ),
    ),
}
