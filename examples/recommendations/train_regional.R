# A model of one region: its mean, and what each movie and each user add to it, shrunk towards zero
# by how few ratings that rests on (the baseline predictors of Koren, Bell and Volinsky 2009).
# How strongly to shrink is found by cross-validation.
#
# train_regional.R --region NAME

arguments <- commandArgs(trailingOnly = TRUE)
region <- arguments[match("--region", arguments) + 1]
split <- Sys.getenv("MESON_INPUT_RATINGS")

read <- function(part) {
  all <- read.csv(file.path(split, paste0(part, ".csv")))
  all[all$region == region, ]
}

effect <- function(residual, group, shrink) {
  tapply(residual, group, sum) / (tapply(residual, group, length) + shrink)
}

of <- function(effects, keys) {
  found <- effects[as.character(keys)]
  ifelse(is.na(found), 0, found)
}

fit <- function(ratings, shrink) {
  mean <- mean(ratings$rating)
  movie <- effect(ratings$rating - mean, ratings$movie, shrink)
  user <- effect(ratings$rating - mean - of(movie, ratings$movie), ratings$user, shrink)
  list(region = region, mean = mean, movie = movie, user = user)
}

squares <- function(model, ratings) {
  (ratings$rating - model$mean - of(model$movie, ratings$movie) - of(model$user, ratings$user))^2
}

train <- read("train")
if (nrow(train) == 0) stop("no rating to train on in region ", region)
fold <- seq_len(nrow(train)) %% 5
validated <- function(shrink) {
  mean(unlist(lapply(0:4, function(k) squares(fit(train[fold != k, ], shrink), train[fold == k, ]))))
}
candidates <- c(1, 5, 25, 125)
shrink <- candidates[which.min(sapply(candidates, validated))]
model <- fit(train, shrink)
rmse <- sqrt(mean(squares(model, read("test"))))

cat(sprintf("%s: %d ratings, shrunk by %d, rmse %.4f\n", region, nrow(train), shrink, rmse))
saveRDS(model, "model.rds")
cat(sprintf("rmse=%.6f\n", rmse), 'model={"$file": "model.rds"}\n', sep = "",
    file = Sys.getenv("MESON_OUTPUT"), append = TRUE)
